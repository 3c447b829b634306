"""Tracking: the run's own record, and browsers of it."""

from gorl.tracking.base import AbstractTracked as AbstractTracked, AbstractTracker as AbstractTracker, Entry as Entry
