"""Algorithms: how a policy improves from an environment."""

from gorl.algorithms.base import AbstractAlgorithm as AbstractAlgorithm
from gorl.algorithms.critics import AbstractCritic as AbstractCritic, Critic as Critic
from gorl.algorithms.on_policy import OnPolicy as OnPolicy
from gorl.algorithms.sac import SAC as SAC
