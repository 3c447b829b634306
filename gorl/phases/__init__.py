"""Phases: the verbs of a stage."""

from gorl.phases.base import AbstractPhase as AbstractPhase, PhaseContext as PhaseContext, Unit as Unit
from gorl.phases.collect_rollouts import CollectRollouts as CollectRollouts
from gorl.phases.evaluate import Evaluate as Evaluate
from gorl.phases.fit_decoder import FitDecoder as FitDecoder
from gorl.phases.improve_policy import ImprovePolicy as ImprovePolicy
