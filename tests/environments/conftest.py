"""For tests that call MJX or Brax."""

import jax
import pytest


@pytest.fixture
def third_party():
    """MJX and Brax rely on rank promotion, and their programs compile faster than they run only without optimisation."""
    with jax.numpy_rank_promotion("allow"):
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)
