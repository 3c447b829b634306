"""For tests that compile MuJoCo's physics."""

import jax
import pytest


@pytest.fixture
def third_party():
    """MJX relies on rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield
