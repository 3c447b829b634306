"""Declared experiments, benchmarks and fault tests, with their recorded results. Run them from the project's root."""
