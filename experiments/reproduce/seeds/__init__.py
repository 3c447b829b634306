"""Scales whose cells are single seeds, each in one process on one core."""
