"""Shared by all tests. Shapes are checked at run time (see pyproject: jaxtyping + beartype)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Half of the suite's time is XLA's: programs here run for milliseconds, so they need no optimising. Processes inherit it.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import gin
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def getkey():
    """A new key at each call, the same ones in every run of a test."""
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    return lambda: next(keys)


@pytest.fixture(autouse=True)
def fresh_gin():
    """gin's configuration is global: no test sees another's."""
    gin.clear_config()
    yield
    gin.clear_config()
