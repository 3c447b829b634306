"""Trains what an experiment declares: the trainer, its ensemble of seeds, restoring, execution."""
