"""Tracking: the run's own record, and browsers of it."""

from gorl.tracking.base import AbstractTracker as AbstractTracker, Entry as Entry
