"""Tracking: the run's own record, and browsers of it."""

from gorl.runs.record import RecordEntry as RecordEntry
from gorl.tracking.base import AbstractTracked as AbstractTracked, AbstractTracker as AbstractTracker
