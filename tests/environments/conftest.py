"""For tests that compile more than they run."""

import jax
import pytest


@pytest.fixture
def quick_compiles():
    """A program of a few milliseconds takes seconds to optimise."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def third_party(quick_compiles):
    """MJX and Brax rely on rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield
