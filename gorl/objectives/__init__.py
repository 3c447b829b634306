"""Objectives of reinforcement learning, which are pure functions of arrays."""
