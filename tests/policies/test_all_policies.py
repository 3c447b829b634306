"""What holds for every policy that gorl registers, with every trust region. A new one must be added to the table."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gorl.registry  # noqa: F401
from gorl.config import tables
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import DiscreteTimes, UniformTimes
from gorl.networks import FourierTime, trainable
from gorl.objectives.trust_region import ASPO, SPO, AbstractTrustRegion, Clip
from gorl.policies import GaussianPolicy
from gorl.policies.base import AbstractPolicy
from gorl.policies.denoising import DenoisingPolicy
from gorl.policies.flow import FlowPolicy
from gorl.policies.flow_ratio import AveragedRatio, NoiseTarget, PerDrawRatio, VelocityTarget
from tests.support.networks import NORMALIZER, mlp

OBS_SIZE, ACTION_SIZE, BATCH = 3, 2, 6
BODY = mlp(8, 1)
INPUTS = {"body": BODY, "normalizer": NORMALIZER}
FLOW = {**INPUTS, "time_embedding": FourierTime(2), "velocity_scale": 0.25}
AVERAGED = {
    **FLOW,
    "sampler": Euler(3, UniformGrid()),
    "target": NoiseTarget(),
    "times": DiscreteTimes(10),
    "ratio": AveragedRatio(),
    "draws": 4,
}
# name: (class, what is bound, ratios of an action)
POLICIES = {
    "gaussian": (GaussianPolicy, {**INPUTS, "min_std": 1e-3, "max_std": 10.0, "initial_std": 1.0}, 1),
    "FPO": (FlowPolicy, AVERAGED, 1),
    "FPO++": (
        FlowPolicy,
        {**AVERAGED, "target": VelocityTarget(), "times": UniformTimes(), "ratio": PerDrawRatio(clip=3.0)},
        4,
    ),
    "DPPO": (DenoisingPolicy, {**FLOW, "sigma": 0.05, "steps": 3, "final_steps": 3}, 3),
    "DPPO, final steps": (DenoisingPolicy, {**FLOW, "sigma": 0.05, "steps": 3, "final_steps": 2}, 2),
}
REGIONS = {Clip: Clip(0.2), SPO: SPO(0.2), ASPO: ASPO(0.2)}


def registered(role):
    classes = (t for t in tables.registered().values() if inspect.isclass(t) and t.__module__.startswith("gorl."))
    return {t for t in classes if issubclass(t, role)}


def test_the_tables_have_every_policy_and_trust_region():
    assert registered(AbstractPolicy) == {kind for kind, *_ in POLICIES.values()}
    assert registered(AbstractTrustRegion) == set(REGIONS)


@pytest.fixture(params=POLICIES)
def case(request, getkey):
    """(policy, ratios an action, observations, actions, extras)"""
    kind, settings, ratios = POLICIES[request.param]
    policy = kind(OBS_SIZE, ACTION_SIZE, key=getkey(), **settings)
    policy = policy.observe(3.0 + 2.0 * jax.random.normal(getkey(), (50, OBS_SIZE)), jnp.ones(50))
    obs = 3.0 + 2.0 * jax.random.normal(getkey(), (BATCH, OBS_SIZE))
    action, extras = eqx.filter_jit(
        lambda p: jax.vmap(lambda o, k: p.sample(o, key=k))(obs, jax.random.split(jax.random.key(7), BATCH))
    )(policy)
    return policy, ratios, obs, action, extras


def log_ratios(policy, obs, action, extras):
    return jax.vmap(lambda o, a, e: policy.log_ratio(o, a, e, key=jax.random.key(0)))(obs, action, extras)


def moved(policy, by=0.05):
    """As after some update of the network."""
    rng = np.random.default_rng(0)
    body = jax.tree.map(
        lambda x: x + by * rng.standard_normal(x.shape).astype(np.float32) if eqx.is_inexact_array(x) else x,
        policy.body,
    )
    return eqx.tree_at(lambda p: p.body, policy, body)


def test_shapes_and_determinism(case):
    policy, ratios, obs, action, extras = case
    assert action.shape == (BATCH, ACTION_SIZE) and action.dtype == jnp.float32 and jnp.all(jnp.isfinite(action))
    found = eqx.filter_jit(log_ratios)(policy, obs, action, extras)
    assert found.shape == (BATCH, ratios) and found.dtype == jnp.float32
    for rule in (policy.mode, policy.zero_noise):
        one, other = rule(obs[0], key=jax.random.key(0)), rule(obs[0], key=jax.random.key(1))
        assert one.shape == (ACTION_SIZE,)
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(action[0], policy.mode(obs[0], key=jax.random.key(0)))


def test_the_ratio_is_1_before_any_update_and_not_after(case):
    policy, _, obs, action, extras = case
    np.testing.assert_allclose(eqx.filter_jit(log_ratios)(policy, obs, action, extras), 0.0, atol=2e-5)
    assert np.max(np.abs(log_ratios(moved(policy), obs, action, extras))) > 1e-3


def test_what_was_stored_under_other_statistics_can_be_rescored(case, getkey):
    """Rescored, the ratio is 1 again, and what was drawn is kept. A policy rescores its own actions to what it has."""
    policy, _, obs, action, extras = case
    later = policy.observe(-1.0 + 5.0 * jax.random.normal(getkey(), (50, OBS_SIZE)), jnp.ones(50))

    @eqx.filter_jit
    def rescored(policy):
        new = jax.vmap(policy.rescore)(obs, action, extras)
        return new, log_ratios(policy, obs, action, new), log_ratios(policy, obs, action, extras)

    new, ratio, spoiled = rescored(later)
    assert jax.tree.structure(new) == jax.tree.structure(extras)
    assert np.max(np.abs(spoiled)) > 1e-3
    np.testing.assert_allclose(ratio, 0.0, atol=2e-5)
    for name in ("noise", "t", "chain"):
        if (drawn := getattr(extras, name, None)) is not None:
            np.testing.assert_array_equal(getattr(new, name), drawn)
    for found, stored in zip(jax.tree.leaves(rescored(policy)[0]), jax.tree.leaves(extras), strict=True):
        np.testing.assert_allclose(found, stored, rtol=1e-5, atol=2e-5)


def test_compiled_it_is_the_same(case):
    policy, _, obs, action, extras = case
    later = moved(policy)
    compiled = eqx.filter_jit(log_ratios)(later, obs, action, extras)
    with jax.disable_jit():
        one = later.log_ratio(obs[1], action[1], jax.tree.map(lambda x: x[1], extras), key=jax.random.key(0))
    np.testing.assert_allclose(compiled[1], one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("region", REGIONS, ids=lambda r: r.__name__)
def test_at_the_old_policy_every_trust_region_has_the_policy_gradient(case, region):
    """The objective's gradient is then A times that of the log-ratio, whatever the region and the ratio.

    It reaches every weight.
    """
    policy, _, obs, action, extras = case
    advantage = jnp.linspace(-1.0, 1.0, BATCH)
    params, rest = eqx.partition(policy, trainable(policy))

    def mean(params, objective):
        return jnp.mean(
            jax.vmap(jax.vmap(objective, (0, None)))(
                log_ratios(eqx.combine(params, rest), obs, action, extras), advantage
            )
        )

    found = eqx.filter_jit(jax.grad(lambda p: mean(p, REGIONS[region].objective)))(params)
    plain = eqx.filter_jit(jax.grad(lambda p: mean(p, lambda log_ratio, a: log_ratio * a)))(params)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        assert jnp.all(jnp.isfinite(f)) and jnp.any(f)
        np.testing.assert_allclose(f, e, rtol=2e-3, atol=1e-4 * float(jnp.max(jnp.abs(e))) + 1e-6)


def test_only_the_network_is_trained(case):
    policy = case[0]
    trained = jax.tree.leaves(eqx.filter(policy, trainable(policy)))
    assert len(trained) == len(jax.tree.leaves(policy.body))
