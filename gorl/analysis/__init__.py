"""What a run's record says."""
