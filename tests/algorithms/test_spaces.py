"""SAC whose critics judge the decoder's actions: closed forms, and what outlives a swap of decoders."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config, runs
from gorl.algorithms.critics import AbstractActionCritic
from gorl.decoders import IdentityDecoder
from gorl.environments.toy import Slider
from gorl.environments.wrappers import DecodedEnvironment, SquashedEnvironment
from gorl.errors import ConfigError
from gorl.networks import AbstractNormalizer
from gorl.objectives.entropy import RelativeEntropy
from gorl.policies import GaussianPolicy
from gorl.state import RunState, Spaces
from tests.algorithms.test_sac import EPISODES, QUICK, SGD, Line, draws, iterate, rows, sac
from tests.support.networks import NORMALIZER
from tests.support.toy_runs import Crash, train_here

BOUND, CENTER, TEMPERATURE, STD = 3.0, 1.5, 0.5, 0.5


class Scaled(IdentityDecoder):
    """u = scale z + s[0]."""

    scale: jax.Array

    def __init__(self, scale, size=1):
        self.action_size, self.scale = size, jnp.asarray(scale)

    def __call__(self, obs, latent):
        return self.scale * latent + obs[:1]


class Quadratic(AbstractActionCritic):
    """Q(s, u) = -(u - center)², once."""

    center: jax.Array
    normalizer: AbstractNormalizer

    def __init__(self, obs_size, action_size, *, key):
        self.center, self.normalizer = jnp.full(action_size, CENTER), NORMALIZER(obs_size)

    def __call__(self, obs, action):
        return -jnp.sum((action - self.center) ** 2)[None]


def decoded(decoder):
    return DecodedEnvironment(SquashedEnvironment(Slider(), jnp.float32(BOUND)), decoder)


def quadratic(mean, **changes):
    """(algorithm, learner) with the policy N(mean s, 0.5²), in the space of actions."""
    body = lambda i, o, *, key: Line(jnp.zeros((o, i)))
    settings = {"body": body, "normalizer": functools.partial(NORMALIZER, epsilon=0.0)}
    policy = functools.partial(GaussianPolicy, min_std=1e-3, max_std=10.0, initial_std=STD, **settings)
    settings = {"policy": policy, "critic": Quadratic, "entropy": RelativeEntropy(1.0), "optimizer": SGD}
    settings = {**settings, "initial_temperature": TEMPERATURE, "learning_rate": 0.1, "space": "action", **changes}
    algorithm = sac(**settings)
    learner = algorithm.create(Spaces(1, 1, 1, 1), key=jax.random.key(0))
    return algorithm, eqx.tree_at(lambda m: m.policy.body.weight, learner, jnp.array([[mean], [0.0]]))


@functools.partial(eqx.filter_jit, compiler_options=QUICK)
def update(algorithm, learner, key, env):
    return algorithm.update(learner, rows(), key, algorithm._space.decode(env))


@pytest.mark.parametrize("mean", [0.2, 1.2])
def test_the_encoder_follows_q_through_the_decoder(getkey, mean):
    """s = 1, u = 2 z + 1: d/dm of T log(pi(z) / N(z)) + (u - 1.5)² is T z + 2 (u - 1.5) 2, the last where |u| < 3."""
    algorithm, learner = quadratic(mean)
    key = getkey()
    after, metrics = update(algorithm, learner, key, decoded(Scaled(2.0)))
    z = mean + STD * draws(key)[0]
    u = 2.0 * z + 1.0
    inside = u < BOUND
    assert inside.all() if mean == 0.2 else 0 < inside.sum() < 5
    slope = np.mean(TEMPERATURE * z + np.where(inside, 4.0 * (u - CENTER), 0.0))
    np.testing.assert_allclose(mean - after.policy.body.weight[0, 0], 0.1 * slope, rtol=1e-4)
    density = -0.5 * draws(key)[0] ** 2 - np.log(STD) + 0.5 * z**2
    loss = np.mean(TEMPERATURE * density + (np.minimum(u, BOUND) - CENTER) ** 2)
    np.testing.assert_allclose(metrics["loss/policy"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -np.mean(density), rtol=1e-4)


def test_the_target_is_of_the_next_decoded_action(getkey):
    """The stored u = 2 is judged as it is, the next one at s' = 3 is 0.5 z' + 3, held by the bound."""
    algorithm, learner = quadratic(-0.3)
    key = getkey()
    _, metrics = update(algorithm, learner, key, decoded(Scaled(0.5)))
    z = -0.9 + STD * draws(key)[1]  # the mean is -0.3 s'
    u = np.clip(0.5 * z + 3.0, -BOUND, BOUND)
    density = -0.5 * draws(key)[1] ** 2 - np.log(STD) + 0.5 * z**2
    target = 1.0 + 0.9 * (-((u - CENTER) ** 2) - TEMPERATURE * density)
    q = -((2.0 - CENTER) ** 2)
    np.testing.assert_allclose(metrics["loss/critic"], np.mean(0.5 * (q - target) ** 2), rtol=1e-4)
    np.testing.assert_allclose(metrics["q"], q, rtol=1e-6)


def test_on_the_identity_decoder_both_spaces_are_one_algorithm(getkey):
    """Within the bound, bit for bit: decoded latents are the latents."""
    key, (latent, learner) = getkey(), quadratic(0.2, space="latent")
    action, same = quadratic(0.2)
    env = decoded(IdentityDecoder(1, 1, key=getkey()))
    found = [update(latent, learner, key, env), update(action, same, key, env)]
    for one, other in zip(*(jax.tree.leaves(x) for x in found), strict=True):
        np.testing.assert_array_equal(one, other)


class Twice(Scaled):
    """u = (scale z + s[0]) twice: one latent, two numbers."""

    def __call__(self, obs, latent):
        return jnp.repeat(super().__call__(obs, latent), 2)


def test_the_target_of_the_entropy_is_that_of_the_latent(getkey):
    """A divergence of 1 nat for the one latent, whatever is decoded from it; SGD at 0.01 from a temperature of 0.5."""
    algorithm, _ = quadratic(0.2)
    learner = algorithm.create(Spaces(1, 1, 1, 2), key=getkey())
    after, metrics = update(algorithm, learner, getkey(), decoded(Twice(2.0)))
    moved = float(after.log_temperature - learner.log_temperature)
    np.testing.assert_allclose(moved, -0.01 * TEMPERATURE * (metrics["entropy"] + 1.0), rtol=1e-4)


def test_the_critic_has_the_size_of_actions(getkey):
    """Two latents are decoded to an action of three numbers; the observation has four."""
    for space, size in (("latent", 2), ("action", 3)):
        critic = lambda obs_size, action_size, *, key: Sized(obs_size, action_size)
        learner = sac(space=space, critic=critic).create(Spaces(4, 4, 2, 3), key=getkey())
        assert learner.critic.size == size and learner.policy.distribution(jnp.zeros(4)).mean.shape == (2,)


class Sized(Quadratic):
    size: int = eqx.field(static=True)

    def __init__(self, obs_size, action_size):
        self.center, self.normalizer, self.size = jnp.zeros(action_size), NORMALIZER(obs_size), action_size


def test_a_state_is_valued_at_the_decoded_mode():
    _, learner = quadratic(0.5)
    value = learner.value_in(decoded(Scaled(2.0)))
    np.testing.assert_allclose(value(jnp.ones(1), jnp.ones(1)), -((2.0 * 0.5 + 1.0 - CENTER) ** 2), rtol=1e-6)
    np.testing.assert_allclose(value(jnp.ones(1), jnp.full(1, 9.0)), -((BOUND - CENTER) ** 2), rtol=1e-6)


# ---- a swap ----


def begin(algorithm, env, getkey):
    learner = algorithm.create(Spaces(2, 2, 1, 1), key=getkey())
    return algorithm.start(env, learner, EPISODES, key=getkey())


def test_the_replay_outlives_a_swap(getkey):
    """80 steps with u = 3 z + x, then 80 with u = -z + x: first the old ones, then the new ones, all true of u."""
    algorithm = sac(space="action", replay_capacity=200)
    first, second = decoded(Scaled(3.0)), decoded(Scaled(-1.0))
    state, _ = iterate(algorithm, first, begin(algorithm, first, getkey), getkey())
    fresh = begin(algorithm, second, getkey)
    assert fresh.replay.current_index == 0
    began = algorithm.with_replay(fresh, algorithm.replay_of(state))
    after, metrics = iterate(algorithm, second, began, getkey())
    assert metrics["replay_size"] == 160 and metrics["updates"] == 2 * 9  # from the 90th transition on
    before, now = (jax.tree.map(lambda x: np.asarray(x)[0], s.replay.experience) for s in (state, after))
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(now), strict=True):
        np.testing.assert_array_equal(one[:80], other[:80])
    speed = np.clip(now.obs[:160, 1] + 0.1 * np.tanh(now.action[:160, 0]), -2, 2)
    np.testing.assert_allclose(now.next_obs[:160, 1], speed, atol=1e-6)
    assert np.max(np.abs(now.action)) <= BOUND and np.any(now.action[80:160] != 0)


def test_latents_are_not_kept(getkey):
    algorithm, env = sac(), decoded(Scaled(3.0))
    state = begin(algorithm, env, getkey)
    assert algorithm.replay_of(state) is None and algorithm.with_replay(state, "anything") is state


def test_a_replay_of_another_capacity_is_refused(getkey):
    algorithm, env = sac(space="action"), decoded(Scaled(3.0))
    larger = sac(space="action", replay_capacity=200)
    with pytest.raises(ConfigError, match=r"SAC\.replay_capacity = 100 does not fit the replay of an earlier stage"):
        algorithm.with_replay(begin(algorithm, env, getkey), larger.replay_of(begin(larger, env, getkey)))


@pytest.mark.parametrize("spaces, goes_on", [(("action", "action"), True), (("latent", "action"), False),
                                             (("action", "latent"), False)])  # fmt: skip
def test_what_outlives_the_decoder(getkey, spaces, goes_on):
    old, new = (sac(space=s, initial_temperature=t).create(Spaces(2, 2, 1, 1), key=getkey())
                for s, t in zip(spaces, (0.1, 0.2)))  # fmt: skip
    kept = new.with_critic_of(old)
    source = old if goes_on else new
    for part in ("log_temperature", "target"):
        assert eqx.tree_equal(getattr(kept, part), getattr(source, part))
    assert eqx.tree_equal(kept.critic.bodies, source.critic.bodies)
    assert eqx.tree_equal((kept.policy, kept.optimizer), (new.policy, new.optimizer)) and kept.space == spaces[1]


def test_a_space_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"SAC\.space = 'actoin': it is 'latent' or 'action'\. Did you mean action"):
        sac(space="actoin")


# ---- a run ----


FILES = ["gorl_action_sac.gin", "parts/debug.gin"]
BINDINGS = [
    "Task.environment = @Slider()", "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]", "EPISODE_LENGTH = 20",
    "Experiment.checkpoint_interval = 0.0", "Experiment.trackers = []", "DECODER_DEPTH = 1", "DECODER_WIDTH = 8",
    "policy/MLP.depth = 1", "policy/MLP.width = 8", "q/LayerNormMLP.depth = 1", "WARMUP_STEPS = 160",
    "COLLECT_STEPS = 160", "COLLECT_EPISODE_LENGTH = 20", "EVALUATION_INTERVAL = 160",
    "SAC.replay_capacity = 500",
]  # fmt: skip


def test_every_phase_in_between_passes_the_replay_on():
    """Templates alone: nothing is compiled."""
    experiment = config.build(FILES, BINDINGS).experiment
    phases = list(experiment.planned_phases())
    assert len(phases) == 7
    for position in range(1, 8):
        replay = experiment.template(position, False).replay
        assert replay.experience.action.shape == (1, 500, 1), phases[position - 1].name
    latents = config.build(FILES, [*BINDINGS, "SAC.space = 'latent'"]).experiment
    assert all(latents.template(position, False).replay is None for position in range(1, 8))


@pytest.mark.parametrize("reinitialize, size", [("policy", 7), ("networks", 7), ("nothing", 7), ("all", 0)])
def test_a_phase_begins_with_the_replay_unless_all_begins_anew(reinitialize, size):
    experiment = config.build(FILES, [*BINDINGS, f"stage0/ImprovePolicy.reinitialize = '{reinitialize}'"]).experiment
    planned = next(experiment.planned_phases())
    context = experiment.context(planned, 0)
    first = planned.declaration.start(context, experiment.initial_state(0))
    replay = eqx.tree_at(lambda r: r.current_index, first.training.replay, np.asarray(7, np.int32))
    run = RunState(first.decoder, learner=first.training.learner, replay=replay)
    began = planned.declaration.start(context, run)
    assert int(began.training.replay.current_index) == size


def test_two_stages_resume_bit_for_bit(tmp_path):
    """Cut in each phase of stage 1 but the first; the replay of both stages is in the last checkpoint."""
    configuration = config.build(FILES, BINDINGS)
    _, entries = train_here(configuration, tmp_path / "whole")
    kinds = [e.kind for e in entries]
    cuts = [kinds.index("epoch"), kinds.index("epoch") + 1, kinds.index("evaluate_prior") + 4]
    done = 0
    for cut in cuts:
        with pytest.raises(Crash):
            train_here(configuration if done == 0 else None, tmp_path / "cut", units=cut - done)
        done = cut
    train_here(None, tmp_path / "cut")
    whole, cut = (stored(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)
    (index,) = [x for name, x in whole.items() if name.endswith("replay.current_index")]
    assert int(index) == 320  # 160 of each stage


def stored(folder):
    store = runs.CheckpointStore(folder)
    arrays = store.stored(store.newest()[0])
    store.close()
    return arrays
