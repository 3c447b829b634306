import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import DiscreteTimes, UniformTimes
from gorl.networks import trainable
from gorl.objectives.trust_region import ASPO, SPO, Clip
from gorl.policies import FlowPolicy
from gorl.policies.flow_ratio import AveragedRatio, NoiseTarget, PerDrawRatio, VelocityTarget
from tests.support.linear_fields import ACTION_SIZE, OBS_SIZE, acted, common, log_ratios, network, nudged, set_linear

DRAWS = 6


def flow_policy(key, *, steps=4, target=None, times=None, ratio=None, **changes):
    parts = {
        "sampler": Euler(steps=steps, grid=UniformGrid()),
        "target": target or NoiseTarget(),
        "times": times or DiscreteTimes(steps=4),
    }
    return FlowPolicy(
        OBS_SIZE, ACTION_SIZE, **parts, ratio=ratio or AveragedRatio(), **common(**{"draws": DRAWS, **changes}), key=key
    )


def noise_loss(policy, obs, action, noise, t):
    """mean |noise - noise_hat|² by FPO's definition, at one draw, in float64."""
    action, noise, t = (np.asarray(x, np.float64) for x in (action, noise, t))
    x_t = t * noise + (1 - t) * action
    v = np.asarray(policy.velocity(obs, jnp.asarray(x_t, jnp.float32), jnp.asarray(t, jnp.float32)), np.float64)
    return np.mean((noise - ((x_t - t * v) + v)) ** 2)


@pytest.mark.parametrize("times", [DiscreteTimes(steps=4), UniformTimes()])
@pytest.mark.parametrize("target", [NoiseTarget(), VelocityTarget()])
@pytest.mark.parametrize("ratio, size", [(AveragedRatio(), 1), (PerDrawRatio(clip=3.0), DRAWS)])
def test_the_ratio_is_1_before_any_update(getkey, ratio, size, target, times):
    policy, obs = (
        flow_policy(getkey(), target=target, times=times, ratio=ratio),
        jax.random.normal(getkey(), (16, OBS_SIZE)),
    )
    action, extras = acted(policy, obs, getkey())
    assert extras.noise.shape == (16, DRAWS, ACTION_SIZE) and extras.t.shape == extras.loss.shape == (16, DRAWS)
    np.testing.assert_allclose(log_ratios(policy, obs, action, extras), np.zeros((16, size)), atol=2e-6)  # rounding
    moved = log_ratios(nudged(policy), obs, action, extras)
    assert jnp.all(jnp.max(jnp.abs(moved), axis=1) > 1e-4)


def test_the_ratio_after_an_update_by_its_definition(getkey):
    policy, obs = flow_policy(getkey(), times=UniformTimes()), jax.random.normal(getkey(), (3, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    new = nudged(policy, by=0.5)
    per_draw = eqx.tree_at(lambda p: p.ratio, new, PerDrawRatio(clip=0.05))
    losses = np.array(
        [
            [
                [noise_loss(p, obs[i], action[i], extras.noise[i, k], extras.t[i, k]) for k in range(DRAWS)]
                for i in range(3)
            ]
            for p in (policy, new)
        ]
    )
    np.testing.assert_allclose(extras.loss, losses[0], rtol=1e-4, atol=1e-6)
    difference = losses[0] - losses[1]
    assert np.max(np.abs(difference)) > 0.05 > np.min(np.abs(difference))  # some are clipped, some are not
    np.testing.assert_allclose(log_ratios(new, obs, action, extras), difference.mean(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(log_ratios(per_draw, obs, action, extras), np.clip(difference, -0.05, 0.05), atol=1e-5)


@pytest.mark.parametrize("target, moves", [(NoiseTarget(), False), (VelocityTarget(), True)])
def test_draws_at_the_noise_end_have_ratio_1_on_the_noise_alone(getkey, target, moves):
    policy = flow_policy(
        getkey(), target=target, times=DiscreteTimes(steps=1), ratio=PerDrawRatio(clip=3.0)
    )  # t = 1 always
    obs = jax.random.normal(getkey(), (8, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    assert jnp.all(extras.t == 1.0)
    assert bool(jnp.all(log_ratios(nudged(policy), obs, action, extras) != 0.0)) is moves
    assert bool(jnp.any(log_ratios(nudged(policy), obs, action, extras) != 0.0)) is moves


def test_the_draws_are_standard_normal_and_not_the_actions_own_noise(getkey):
    policy = set_linear(flow_policy(getkey(), body=network(depth=0)), 0.0, 0.0)  # the action is its noise
    obs = jnp.zeros((2000, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    np.testing.assert_allclose([jnp.mean(extras.noise), jnp.std(extras.noise)], [0.0, 1.0], atol=0.03)
    correlation = np.corrcoef(np.asarray(action[:, 0]), np.asarray(extras.noise[:, 0, 0]))[0, 1]
    assert abs(correlation) < 0.07  # 3 standard errors
    assert {float(t) for t in np.unique(extras.t)} == {0.25, 0.5, 0.75, 1.0}


SLOPE, OFFSET, STEPS = 0.8, np.array([0.5, -1.0]), 4
SHRINK = 1 - SLOPE / STEPS  # one Euler step of v = slope x + offset: x <- shrink x - offset / steps
MEAN = -OFFSET / STEPS * sum(SHRINK**j for j in range(STEPS))


def test_actions_of_a_linear_field_have_its_closed_form(getkey):
    policy = set_linear(flow_policy(getkey(), body=network(depth=0), steps=STEPS), SLOPE, OFFSET)
    action, _ = acted(policy, jax.random.normal(getkey(), (20_000, OBS_SIZE)), getkey())
    np.testing.assert_allclose(jnp.mean(action, axis=0), MEAN, atol=0.01)
    np.testing.assert_allclose(jnp.std(action, axis=0), np.full(2, SHRINK**STEPS), rtol=0.02)


def test_the_mode_is_the_image_of_zero_noise_whatever_the_key(getkey):
    policy = set_linear(flow_policy(getkey(), body=network(depth=0), steps=STEPS), SLOPE, OFFSET)
    obs = jax.random.normal(getkey(), (OBS_SIZE,))
    for _ in range(3):
        np.testing.assert_allclose(policy.mode(obs, key=getkey()), MEAN, rtol=1e-5)


@pytest.mark.parametrize("region", [Clip(0.05), SPO(0.05), ASPO(0.05)])
@pytest.mark.parametrize("ratio", [AveragedRatio(), PerDrawRatio(clip=3.0)])
def test_a_step_up_the_objective_makes_a_good_action_likelier_and_a_bad_one_less(getkey, ratio, region):
    policy, obs = flow_policy(getkey(), ratio=ratio, times=UniformTimes()), jax.random.normal(getkey(), (4, OBS_SIZE))
    action, extras = acted(policy, obs, getkey())
    advantage = jnp.array([1.0, -1.0, 2.0, -2.0])
    params, rest = eqx.partition(policy, trainable(policy))

    def objective(params):
        log_ratio = jax.vmap(lambda o, a, e: eqx.combine(params, rest).log_ratio(o, a, e, key=jax.random.key(0)))(
            obs, action, extras
        )
        return jnp.mean(jax.vmap(jax.vmap(region.objective, (0, None)))(log_ratio, advantage))

    slopes = eqx.filter_jit(jax.grad(objective))(params)
    after = eqx.combine(jax.tree.map(lambda p, g: p + 0.01 * g, params, slopes), rest)
    change = jnp.mean(log_ratios(after, obs, action, extras), axis=1)
    assert jnp.sum(change * advantage) > 1e-4
    assert jnp.mean(change[advantage > 0]) > jnp.mean(change[advantage < 0])


def test_the_networks_input_is_normalised(getkey):
    policy, data = nudged(flow_policy(getkey())), 100.0 + 5.0 * jax.random.normal(getkey(), (500, OBS_SIZE))
    observed, x, t = policy.observe(data, jnp.ones(500)), jnp.array([0.3, -0.2]), jnp.float32(0.5)
    scaled = (data[0] - jnp.mean(data, axis=0)) / jnp.std(data, axis=0)
    expected = 0.25 * policy.body(jnp.concatenate([scaled, x, policy.time_embedding(t)]))
    np.testing.assert_allclose(observed.velocity(data[0], x, t), expected, atol=1e-4)


@pytest.mark.parametrize(
    "setting, message",
    [({"draws": 0}, r"draws = 0: it must be >= 1"), ({"velocity_scale": 0.0}, "velocity_scale = 0.0: it must be > 0")],
)
def test_settings_are_checked(getkey, setting, message):
    with pytest.raises(ConfigError, match=message):
        flow_policy(getkey(), **setting)
