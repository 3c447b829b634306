"""Studies: one file says what changes between runs, and the framework does the rest."""
