"""A process that trains one run after another has a bounded number of compiled programs."""

import jax
import jax.numpy as jnp
import pytest

from gorl.runtime import compilation


@pytest.mark.parametrize("most, kept", [(0, 0), (10**9, 1)])
def test_programs_are_let_go_beyond_the_limit(monkeypatch, most, kept):
    monkeypatch.setattr(compilation, "MOST_MAPPINGS", most)
    program = jax.jit(lambda x: x + 1)
    program(jnp.ones(3))
    compilation.release_programs()
    assert program._cache_size() == kept
    assert program(jnp.ones(3))[0] == 2.0


def test_a_system_without_that_file(monkeypatch, tmp_path):
    monkeypatch.setattr(compilation, "MAPPINGS", tmp_path / "maps")
    monkeypatch.setattr(compilation, "MOST_MAPPINGS", 0)
    program = jax.jit(lambda x: x + 1)
    program(jnp.ones(3))
    compilation.release_programs()
    assert program._cache_size() == 1
