"""Phases: the parts of a stage."""

from gorl.phases.absorb_encoder import AbsorbEncoder as AbsorbEncoder
from gorl.phases.base import (
    AbstractPhase as AbstractPhase,
    PhaseContext as PhaseContext,
    PhaseInputs as PhaseInputs,
    StageEnd as StageEnd,
    Unit as Unit,
)
from gorl.phases.collect_rollouts import CollectRollouts as CollectRollouts
from gorl.phases.end_rules import AbstractEndRule as AbstractEndRule, EndState as EndState
from gorl.phases.evaluate import Evaluate as Evaluate, EvaluatePrior as EvaluatePrior
from gorl.phases.fit_critic import FitCritic as FitCritic
from gorl.phases.fit_decoder import FitDecoder as FitDecoder
from gorl.phases.improve_policy import ImprovePolicy as ImprovePolicy
from gorl.phases.latents import AbstractLatents as AbstractLatents, DataSource as DataSource, Row as Row
from gorl.phases.selection import AbstractSelection as AbstractSelection
from gorl.runtime.programs import program as program
