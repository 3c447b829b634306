"""NumPy functions inside compiled programs."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.environments.native import host_call

seen = []


def double(given, out):
    seen.append(given.shape)
    if np.isnan(given).any():
        raise ValueError("not a number")
    out[:, :2], out[:, 2] = 2.0 * given[:, :2], given.sum(axis=1)


@pytest.fixture
def doubled():
    host_call.register("test_host_call_double", double)
    seen.clear()
    return lambda x: host_call.call("test_host_call_double", x, 3)


def test_nested_axes_arrive_as_one_batch(doubled):
    x = jnp.arange(24.0).reshape(2, 4, 3)
    found = jax.jit(jax.vmap(jax.vmap(doubled)))(x)
    np.testing.assert_array_equal(
        found, np.concatenate([2 * np.asarray(x)[..., :2], np.asarray(x).sum(-1, keepdims=True)], -1)
    )
    assert seen == [(8, 3)]
    np.testing.assert_array_equal(doubled(x[1, 2]), found[1, 2])


def test_in_loops_and_among_other_operations(doubled):
    found = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: doubled(x) + 1.0, x))(jnp.ones(3))
    expected = np.ones(3)
    for _ in range(3):
        expected = np.asarray([2 * expected[0], 2 * expected[1], expected.sum()]) + 1.0
    np.testing.assert_allclose(found, expected)


def test_an_exception_on_the_host_is_raised(doubled):
    run = jax.jit(doubled)
    with pytest.raises(jax.errors.JaxRuntimeError, match="ValueError: not a number"):
        jax.block_until_ready(run(jnp.full((3,), jnp.nan)))
    np.testing.assert_array_equal(run(jnp.ones(3)), [2.0, 2.0, 3.0])  # and nothing is broken by it


def test_no_rows_are_no_call(doubled):
    assert jax.jit(jax.vmap(doubled))(jnp.zeros((0, 3))).shape == (0, 3)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from gorl.runtime import compilation
from gorl.environments.native import host_call
compilation.use_persistent_cache()
def fill(given, out):
    out[:] = given + 1.0
host_call.register("test_host_call_fill", fill)
total = jax.jit(lambda x: host_call.call("test_host_call_fill", x, 2))(jnp.ones(2)).sum()
print(float(total), "load_s" in compilation.totals())
"""


def test_another_process_finds_the_compiled_program(tmp_path):
    """A program with a Python callback would be compiled at every start."""
    environment = {
        **os.environ,
        "GORL_CACHE": str(tmp_path),
        "JAX_COMPILATION_CACHE_DIR": "",
        "PYTHONPATH": str(pathlib.Path(host_call.__file__).parents[3]),
    }
    run = lambda: subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [run(), run()] == [["4.0", "False"], ["4.0", "True"]]
    assert any("lambda" in p.name for p in (tmp_path / "xla").iterdir())


ENDLESS = """
import jax, jax.numpy as jnp
from gorl.environments.native import host_call
def fill(given, out):
    out[:] = given + 1.0
host_call.register("test_host_call_fill", fill)
step = lambda _, x: host_call.call("test_host_call_fill", x, 2)
# The product makes it worth a thread of XLA's.
run = jax.jit(lambda x, m: (jax.lax.fori_loop(0, 10**9, step, x), m @ m))
result = run(jnp.ones(2), jnp.ones((300, 300)))
print("dispatched")
"""


def test_a_process_may_end_while_its_program_runs():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(host_call.__file__).parents[3])}
    ended = subprocess.run([sys.executable, "-c", ENDLESS], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.strip()) == (0, "dispatched"), ended.stderr
