import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.algorithms.critics import values_along


class Counting(eqx.Module):
    """V(s) = |s|², and counts the rows that it is asked for."""

    seen: list = eqx.field(static=True)

    def __call__(self, obs):
        jax.debug.callback(lambda o: self.seen.append(np.asarray(o)), obs)
        return jnp.sum(obs**2)


def steps(length, lanes, ends):
    """(obs, next_obs) [T, B, 2] of lanes that walk on, and begin elsewhere after the steps `ends` [(t, lane)]."""
    path = np.random.default_rng(0).normal(size=(length + 1, lanes, 2)).astype(np.float32)
    obs, next_obs = path[:-1].copy(), path[1:].copy()
    for t, lane in ends:
        next_obs[t, lane] = 100.0 + t
    return obs, next_obs


EVERY = [(t, lane) for t in range(7) for lane in range(4)]


@pytest.mark.parametrize(
    "ends", [[], [(2, 1)], [(0, 0), (6, 3)], [(t, 2) for t in range(7)], EVERY[:5], EVERY], ids=len
)
def test_values_are_those_of_every_observation(ends):
    obs, next_obs = steps(7, 4, ends)
    now, then = jax.jit(lambda *x: values_along(lambda o: jnp.sum(o**2), *x))(obs, next_obs)
    np.testing.assert_allclose(now, (obs**2).sum(-1), rtol=1e-6)
    np.testing.assert_allclose(then, (next_obs**2).sum(-1), rtol=1e-6)


@pytest.mark.parametrize("ends, more", [([], 0), ([(6, 1)], 0), ([(2, 1)], 4), (EVERY[:4], 4), (EVERY[:5], 8)])
def test_each_observation_is_valued_once(ends, more):
    """7 x 4 observations and 4 last ones; then as many rounds of 4 as the episodes' ends before the last step need."""
    seen = []
    jax.block_until_ready(values_along(Counting(seen), *map(jnp.asarray, steps(7, 4, ends))))
    jax.effects_barrier()
    assert len(seen) == 7 * 4 + 4 + more


def test_one_step():
    obs, next_obs = steps(1, 3, [])
    now, then = values_along(lambda o: jnp.sum(o**2), jnp.asarray(obs), jnp.asarray(next_obs))
    np.testing.assert_allclose(then, (next_obs**2).sum(-1), rtol=1e-6)


def test_a_broken_observation_is_asked_for_and_breaks_its_own_value_only():
    obs, next_obs = steps(5, 2, [])
    next_obs[1, 0], obs[2, 0] = np.nan, np.nan
    _, then = values_along(lambda o: jnp.sum(o**2), jnp.asarray(obs), jnp.asarray(next_obs))
    assert np.isnan(then[1, 0]) and np.isfinite(np.delete(np.asarray(then).reshape(-1), 2)).all()


class Slope(eqx.Module):
    """V(s) = w s."""

    w: jax.Array

    def __call__(self, obs):
        return self.w * obs[0]


def test_gradients_go_through_the_first_values_alone():
    """Of sum(V) + 3 sum(V_next), d/dw is sum(obs) = 15."""
    obs = jnp.arange(6.0).reshape(3, 2, 1)

    def total(critic):
        value, then = values_along(critic, obs, obs + 10.0)
        return jnp.sum(value) + 3.0 * jnp.sum(then)

    value, gradient = eqx.filter_value_and_grad(total)(Slope(jnp.array(2.0)))
    np.testing.assert_allclose(value, 2.0 * 15.0 + 3.0 * 2.0 * 75.0)
    np.testing.assert_allclose(gradient.w, 15.0)
