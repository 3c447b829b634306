"""For tests that compile more than they run."""

import jax
import pytest


@pytest.fixture
def third_party(quick_compiles):
    """MJX and Brax rely on rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield
