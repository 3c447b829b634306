"""Algorithms: how a policy improves from an environment."""

from gorl.algorithms.action_critics import ActionCritic as ActionCritic, CategoricalCritic as CategoricalCritic
from gorl.algorithms.base import (
    AbstractActorCritic as AbstractActorCritic,
    AbstractAlgorithm as AbstractAlgorithm,
    AbstractLearner as AbstractLearner,
)
from gorl.algorithms.critics import (
    AbstractActionCritic as AbstractActionCritic,
    AbstractCritic as AbstractCritic,
    Critic as Critic,
    TwinCritic as TwinCritic,
)
from gorl.algorithms.on_policy import OnPolicy as OnPolicy
from gorl.algorithms.reppo import REPPO as REPPO
from gorl.algorithms.sac import SAC as SAC
