"""What looks for faults: kills, broken configurations, load."""
