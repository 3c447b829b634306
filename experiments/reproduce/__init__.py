"""Reproduction of the paper's tables at several scales."""
