import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.known_laws import STANDARD, Mixture, errors, levels
from gorl.errors import ConfigError
from gorl.generative.grids import CosineGrid, PowerGrid, UniformGrid
from gorl.generative.samplers import Euler, Heun, Midpoint

START = jnp.array([1.0, -2.0])
ORDER = {Euler: 1, Midpoint: 2, Heun: 2}
CALLS_PER_STEP = {Euler: 1, Midpoint: 2, Heun: 2}
SAMPLERS = list(ORDER)
GRIDS = [UniformGrid(), PowerGrid(1.5), CosineGrid()]


def orders(found):
    """log2 of how much smaller the error gets at each doubling of the steps."""
    return np.log2(np.array(found[:-1]) / np.array(found[1:]))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_convergence_order(sampler, grid):
    """dx/dt = (t - 2) x from t = 1 to 0 ends at x(1) exp(3/2). Float32 ends what a second-order solver can show."""
    steps = (64, 128, 256) if ORDER[sampler] == 1 else (8, 16, 32)
    ends = [sampler(n, grid)(lambda x, t: (t - 2.0) * x, START) for n in steps]
    found = [float(jnp.max(jnp.abs(end - START * np.exp(1.5)))) for end in ends]
    np.testing.assert_allclose(orders(found), ORDER[sampler], atol=0.17)
    assert found[-1] < 0.1


@pytest.mark.parametrize("sampler, expected", [(Euler, 0.375), (Midpoint, 0.640136719), (Heun, 0.6015625)])
def test_two_steps_by_hand(sampler, expected):
    """dx/dt = t x from x = 1, t = 1.

    Euler: (1 - 1/2) (1 - 0.5/2).
    Midpoint: 1 - 0.75² / 2 = 0.71875, then 0.71875 (1 - 0.25 (1 - 0.5/4) / 2).
    Heun: 1 - (1 + 0.25)/4 = 0.6875, then 0.6875 (1 - 0.5/4).
    """
    np.testing.assert_allclose(sampler(2, UniformGrid())(lambda x, t: t * x, START), START * expected, rtol=1e-6)


@pytest.mark.parametrize(
    "sampler, expected",
    [(Euler, [1.0, 0.25]), (Midpoint, [1.0, 0.625, 0.25, 0.125]), (Heun, [1.0, 0.25, 0.25, 0.0])],
)
def test_the_field_is_evaluated_where_the_method_says_and_calls_are_counted(sampler, expected):
    """Two steps on the grid 1, 0.25, 0."""
    calls, method = [], sampler(2, PowerGrid(2.0))
    with jax.disable_jit():
        method(lambda x, t: calls.append(float(t)) or x, START)
    np.testing.assert_allclose(calls, expected, atol=1e-6)
    assert len(calls) == method.network_calls == 2 * CALLS_PER_STEP[sampler]
    assert sampler(7, UniformGrid()).network_calls == 7 * CALLS_PER_STEP[sampler]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_straight_paths_are_exact_on_any_grid(sampler, grid):
    action = jnp.array([0.3, 0.7])
    for steps in (1, 5):
        np.testing.assert_allclose(sampler(steps, grid)(lambda x, t: START - action, START), action, atol=1e-6)


@pytest.mark.parametrize("grid", [UniformGrid(), PowerGrid(1.5)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_exact_velocity_turns_noise_into_a_mixture_at_the_methods_order(sampler, grid):
    """Mean, spread and the modes' weights come out, and the distance to the law vanishes at the method's order."""
    law = Mixture((0.3, 0.7), (-0.6, 0.6), 0.2)
    latents = jnp.asarray(STANDARD.quantiles(levels(501)), jnp.float32)[:, None]
    steps = (64, 128, 256) if ORDER[sampler] == 1 else (16, 32, 64)
    found = [
        errors(law, np.asarray(jax.jit(jax.vmap(lambda z, n=n: sampler(n, grid)(law.velocity, z)))(latents))[:, 0])
        for n in steps
    ]
    np.testing.assert_allclose(orders([f["w1"] for f in found])[-1], ORDER[sampler], atol=0.35)
    last = found[-1]
    assert abs(last["mean"]) < 3e-3 and abs(last["std"]) < 5e-3 and abs(last["mass"]) < 3e-3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_settings_are_checked(sampler):
    with pytest.raises(ConfigError, match=rf"{sampler.__name__}\.steps = 0: it must be >= 1"):
        sampler(0, UniformGrid())
