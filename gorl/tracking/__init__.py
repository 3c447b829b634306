"""Trackers: experiment browsers that receive the metrics of a run."""

from gorl.runs.record import RecordEntry as RecordEntry
from gorl.tracking.base import (
    AbstractTracked as AbstractTracked,
    AbstractTracker as AbstractTracker,
    RunInfo as RunInfo,
)
