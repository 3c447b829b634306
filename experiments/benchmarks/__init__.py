"""Benchmarks of speed, bias and memory."""
