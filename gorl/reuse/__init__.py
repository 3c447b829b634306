"""Results of phases, stored under a hash of all that they depend on, so that runs which share a prefix compute it once."""
