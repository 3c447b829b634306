"""The tables of the paper, at several scales."""
