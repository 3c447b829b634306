import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.decoders.samplers import Euler
from gorl.errors import ConfigError

START = jnp.array([1.0, -2.0])


@pytest.mark.parametrize("rate", [1.0, -1.5])
def test_euler_is_of_order_1(rate):
    """dx/dt = rate x from t = 1 to 0 ends at x(1) exp(-rate); halving the step halves the error."""
    steps = (32, 64, 128)
    errors = [float(jnp.max(jnp.abs(Euler(n)(lambda x, t: rate * x, START) - START * np.exp(-rate)))) for n in steps]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, 1.0, atol=0.04)


def test_euler_by_hand():
    # dx/dt = t x in two steps from t = 1: x (1 - 1/2) (1 - 0.5/2)
    np.testing.assert_allclose(Euler(2)(lambda x, t: t * x, START), START * 0.375)


def test_euler_evaluates_the_field_at_the_start_of_every_step():
    # dx/dt = t: x - (1 + 0.75 + 0.5 + 0.25) / 4
    np.testing.assert_allclose(Euler(4)(lambda x, t: jnp.broadcast_to(t, x.shape), START), START - 0.625)


def test_straight_paths_are_exact_in_one_step():
    action = jnp.array([0.3, 0.7])
    np.testing.assert_allclose(Euler(1)(lambda x, t: START - action, START), action, atol=1e-6)


def test_network_calls_are_counted_right():
    calls = []
    with jax.disable_jit():
        Euler(7)(lambda x, t: calls.append(float(t)) or x, START)
    assert len(calls) == Euler(7).network_calls
    np.testing.assert_allclose(calls, 1.0 - np.arange(7) / 7, rtol=1e-6)


def test_steps_are_checked():
    with pytest.raises(ConfigError, match=r"Euler\.steps = 0: it must be >= 1"):
        Euler(0)
