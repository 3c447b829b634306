"""Stored results of phases. The key is a hash of everything a result depends on, so runs share equal first phases."""
