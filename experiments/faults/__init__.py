"""Searches for faults: kills, broken configurations and heavy load."""
