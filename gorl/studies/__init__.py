"""Studies: one file declares what varies between runs, and the framework expands, runs and resumes them."""
