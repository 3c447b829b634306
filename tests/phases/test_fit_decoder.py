import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl.decoders import AbstractDecoder, FlowMatchingDecoder, IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import RewardFromObservation
from gorl.errors import ConfigError
from gorl.generative.grids import UniformGrid
from gorl.generative.samplers import Euler
from gorl.generative.times import UniformTimes
from gorl.networks import FourierTime
from gorl.optimizers import OptaxCall
from gorl.phases import FitDecoder, PhaseContext
from gorl.phases.base import PhaseInputs
from gorl.phases.batching import accumulate
from gorl.phases.latents import DataSource, PriorLatents, Row
from gorl.phases.selection import AllEpisodes, TopEpisodes
from gorl.runtime import seeds, trees
from gorl.state import Dataset, Episodes, RunState
from tests.support.networks import NORMALIZER, mlp

EPISODES, LENGTH = 40, 25  # 4 episodes validate, 900 rows train
TASK = Task(RewardFromObservation(), LENGTH, True, True, 3.0)
CONTEXT = PhaseContext(TASK, seed=0, stage=1, phase=1)
ALL_SEEDS = PhaseContext(TASK, seed=np.zeros(1, np.int32), stage=1, phase=1)
MODE, SPREAD = 1.5, 0.1  # of the two-mode data: u ~ ± MODE + SPREAD n


class Constant(AbstractDecoder):
    """u = level, fitted by least squares: every number of a fit has a closed form."""

    level: jax.Array

    def __init__(self, obs_size, action_size, *, key):
        del obs_size, key
        self.level = jnp.zeros((action_size,))

    @property
    def latent_size(self):
        return 3

    def __call__(self, obs, latent):
        return self.level

    def loss(self, obs, action, latent, *, key):
        return jnp.mean((action - self.level) ** 2)

    def observe(self, obs, weight):
        return self


def flow_decoder(obs_size, action_size, *, key):
    network = mlp(32, 2)
    return FlowMatchingDecoder(
        obs_size, action_size, body=network, normalizer=NORMALIZER, time_embedding=FourierTime(4), times=UniformTimes(),
        sampler=Euler(40, UniformGrid()), key=key,
    )  # fmt: skip


def fit_decoder(**changes):
    settings = {
        "decoder": flow_decoder,
        "latents": PriorLatents(),
        "optimizer": OptaxCall(function=optax.adam, numbers={}, options=()),
        "learning_rate": 1e-2,
        "max_grad_norm": np.inf,
        "epochs": 30,
        "batch_size": 100,
        "draws": 4,
        "validation_fraction": 0.1,
        "selection": AllEpisodes(),
        "split": "episodes",
        "max_samples": 0,
    }
    return FitDecoder(**{**settings, **changes})


def least_squares(**changes):
    """SGD with a rate of 0.25: level <- level + (mean of the batch - level) / 2."""
    settings = {
        "decoder": Constant,
        "optimizer": OptaxCall(function=optax.sgd, numbers={}, options=()),
        "learning_rate": 0.25,
        "draws": 1,
    }
    return fit_decoder(**{**settings, **changes})


def dataset(action, valid=True):
    """The observation is the number of the episode."""
    obs = jnp.broadcast_to(jnp.arange(EPISODES, dtype=jnp.float32)[:, None, None], (EPISODES, LENGTH, 1))
    action = jnp.broadcast_to(jnp.asarray(action, jnp.float32), (EPISODES, LENGTH))[..., None]
    zeros = jnp.zeros((EPISODES, LENGTH))
    return Dataset(Episodes(obs, action, zeros, zeros, jnp.broadcast_to(jnp.asarray(valid), (EPISODES, LENGTH))))


def two_modes(key):
    sign_key, noise_key = jax.random.split(key)
    signs = jax.random.rademacher(sign_key, (EPISODES, LENGTH), jnp.float32)
    return MODE * signs + SPREAD * jax.random.normal(noise_key, (EPISODES, LENGTH))


def start(phase, data):
    run = RunState(IdentityDecoder(1, 1, key=jax.random.key(0)), policy=jnp.ones(2), learner=jnp.ones(3), dataset=data)
    return phase.start(CONTEXT, run)


def fit(phase, data, epochs=None):
    """(the state after each epoch, the metrics of each epoch)."""
    state, states, metrics = start(phase, data), [], []
    for index, unit in enumerate(phase.units(TASK)[:epochs]):
        state, values = unit.run(
            ALL_SEEDS, trees.unshare_buffers(seeds.add_seed_axis(state)), index
        )  # `own`: the states of earlier epochs stay ours
        state = seeds.take_seed(state)
        states.append(state)
        metrics.append({name: float(value[0]) for name, value in values.items()})
    return states, metrics


def held_out(phase, data):
    return np.unique(np.asarray(start(phase, data).rows.validation) // LENGTH)


# ---- a flow that has a known optimum ----


def least_loss(samples=100_000):
    """The loss of the exact velocity E[z - a | x_t] on the two-mode law: no fit can go below it."""
    rng = np.random.default_rng(0)
    a = MODE * rng.choice([-1.0, 1.0], samples) + SPREAD * rng.standard_normal(samples)
    z, t = rng.standard_normal(samples), rng.random(samples)
    x, variance = t * z + (1 - t) * a, t**2 + (1 - t) ** 2 * SPREAD**2
    means = np.array([[MODE], [-MODE]])
    off = x - (1 - t) * means
    weight = np.exp(-(off**2) / (2 * variance))
    velocity = np.sum(weight * (-means + (t - (1 - t) * SPREAD**2) / variance * off), axis=0) / np.sum(weight, axis=0)
    return np.mean((z - a - velocity) ** 2)


@pytest.fixture(scope="module")
def flow():
    """A fit of a flow to two modes: (phase, data, states, metrics)."""
    phase, data = fit_decoder(), dataset(two_modes(jax.random.key(3)))
    return phase, data, *fit(phase, data)


def test_fitting_lowers_the_validation_loss(flow):
    *_, metrics = flow
    losses = [m["loss/decoder_validation"] for m in metrics]
    assert min(losses) == metrics[-1]["loss/decoder_best"] < 0.75 * losses[0]
    assert all(m["updates_skipped"] == 0.0 for m in metrics)


def test_the_fitted_flow_is_near_the_known_optimum(flow):
    phase, _, states, _ = flow
    decoder = phase.finish(CONTEXT, states[-1]).decoder
    actions = two_modes(jax.random.key(4)).reshape(-1, 1)
    source = DataSource(None, None, None, TASK.action_bound)
    keys = jax.random.split(jax.random.key(5), (20, len(actions)))
    loss = jax.jit(
        jax.vmap(jax.vmap(lambda u, k: phase.loss(decoder, source, Row(jnp.array([7.0]), u), key=k)), (None, 0))
    )
    fresh, least = float(jnp.mean(loss(actions, keys))), least_loss()
    assert 0.97 * least < fresh < 1.1 * least


def test_the_fitted_flow_has_both_modes(flow):
    phase, _, states, _ = flow
    decoder = phase.finish(CONTEXT, states[-1]).decoder
    u = jax.jit(jax.vmap(lambda z: decoder(jnp.array([7.0]), z)))(jax.random.normal(jax.random.key(1), (2_000, 1)))[
        :, 0
    ]
    np.testing.assert_allclose(jnp.mean(u > 0), 0.5, atol=0.1)
    np.testing.assert_allclose([jnp.mean(u[u > 0]), jnp.mean(u[u < 0])], [MODE, -MODE], atol=0.15)
    assert jnp.mean(jnp.abs(u) < 0.75) < 0.1


def test_the_input_statistics_are_those_of_the_training_episodes(flow):
    phase, data, states, _ = flow
    training = np.setdiff1d(np.arange(EPISODES), held_out(phase, data))
    normalizer = states[-1].decoder.normalizer
    np.testing.assert_allclose(
        [normalizer.count, normalizer.mean[0], normalizer.variance[0]],
        [900.0, training.mean(), training.var()],
        rtol=1e-5,
    )


def test_held_out_episodes_do_not_touch_the_fit(flow):
    """Other actions in the held-out episodes: the same weights, another validation loss. In others: other weights."""
    phase, data, states, metrics = flow
    held = held_out(phase, data)
    changed = lambda episodes: eqx.tree_at(
        lambda d: d.episodes.action, data, data.episodes.action.at[episodes].add(0.5)
    )
    same_states, same_metrics = fit(phase, changed(held), epochs=2)
    for a, b in zip(jax.tree.leaves(same_states[1].decoder), jax.tree.leaves(states[1].decoder)):
        np.testing.assert_array_equal(a, b)
    assert same_metrics[1]["loss/decoder"] == metrics[1]["loss/decoder"]
    assert abs(same_metrics[1]["loss/decoder_validation"] - metrics[1]["loss/decoder_validation"]) > 0.01
    for episode in (np.setdiff1d(np.arange(EPISODES), held)[i] for i in (0, -1)):
        _, other = fit(phase, changed(episode), epochs=1)
        assert other[0]["loss/decoder"] != metrics[0]["loss/decoder"]


def test_validation_noise_is_the_same_at_every_epoch(flow):
    _, data, *_ = flow
    _, metrics = fit(fit_decoder(learning_rate=0.0), data, epochs=3)
    assert len({m["loss/decoder_validation"] for m in metrics}) == 1
    assert len({m["loss/decoder"] for m in metrics}) == 3  # training noise is not


# ---- numbers in closed form ----


def test_split_is_by_episode_at_random():
    rows = start(least_squares(), dataset(0.0)).rows
    both = np.concatenate([rows.validation, rows.training])
    np.testing.assert_array_equal(np.sort(both), np.arange(EPISODES * LENGTH))
    episodes = np.asarray(rows.validation).reshape(4, LENGTH) // LENGTH
    assert np.all(episodes == episodes[:, :1]) and np.any(np.diff(both) < 0)


def test_a_split_by_rows_puts_neighbours_on_both_sides():
    """The published defect, as a switch."""
    rows = start(least_squares(split="rows"), dataset(0.0)).rows
    np.testing.assert_array_equal(
        np.sort(np.concatenate([rows.validation, rows.training])), np.arange(EPISODES * LENGTH)
    )
    assert rows.validation.shape == (4 * LENGTH,)
    assert len(set((np.asarray(rows.validation) // LENGTH).tolist())) > 30  # of 40 episodes; a split by episodes has 4


def test_only_the_selected_episodes_are_used():
    """The best tenth by return: four of forty, one of which validates. Their actions are 1, the others' 5."""
    data = dataset(np.where(np.arange(EPISODES)[:, None] % 10 == 3, 1.0, 5.0))
    reward = jnp.broadcast_to((jnp.arange(EPISODES) % 10 == 3)[:, None].astype(jnp.float32), (EPISODES, LENGTH))
    data = eqx.tree_at(lambda d: d.episodes.reward, data, reward)
    phase = least_squares(selection=TopEpisodes(0.1), batch_size=25)
    assert set(held_out(phase, data)) < {3, 13, 23, 33} and len(held_out(phase, data)) == 1
    states, metrics = fit(phase, data, epochs=1)
    np.testing.assert_allclose(states[0].decoder.level, [1.0 - 0.5**3], rtol=1e-6)  # three batches of one episode each


def test_at_most_so_many_samples_are_used():
    phase = least_squares(max_samples=200)
    rows = np.asarray(start(phase, dataset(0.0)).rows.training)
    assert rows.shape == (200,) and len(set(rows.tolist())) == 200
    assert not set((rows // LENGTH).tolist()) & set(held_out(phase, dataset(0.0)).tolist())
    states, _ = fit(phase, dataset(1.0), epochs=1)
    np.testing.assert_allclose(states[0].decoder.level, [0.75], rtol=1e-6)  # two batches


def test_losses_are_means_over_the_two_parts():
    """At rate 0 the level is 0: the losses are mean squares of u over 36 and over 4 whole episodes."""
    u = np.random.default_rng(0).standard_normal((EPISODES, LENGTH))
    phase, data = least_squares(learning_rate=0.0), dataset(u)
    held = held_out(phase, data)
    _, metrics = fit(phase, data, epochs=2)
    for m in metrics:
        np.testing.assert_allclose(m["loss/decoder"], np.mean(np.delete(u, held, axis=0) ** 2), rtol=1e-5)
        np.testing.assert_allclose(m["loss/decoder_validation"], np.mean(u[held] ** 2), rtol=1e-5)


def test_steps_after_an_episodes_end_do_not_count():
    rng = np.random.default_rng(0)
    u, valid = (
        rng.standard_normal((EPISODES, LENGTH)),
        np.arange(LENGTH)[None] < rng.integers(1, LENGTH, EPISODES)[:, None],
    )
    u = np.where(valid, u, 100.0)
    phase, data = least_squares(learning_rate=0.0, batch_size=20), dataset(u, valid)  # batches smaller than an episode
    held = held_out(phase, data)
    _, metrics = fit(phase, data, epochs=1)
    np.testing.assert_allclose(metrics[0]["loss/decoder_validation"], np.mean(u[held][valid[held]] ** 2), rtol=1e-5)
    training = np.setdiff1d(np.arange(EPISODES), held)
    np.testing.assert_allclose(metrics[0]["loss/decoder"], np.mean(u[training][valid[training]] ** 2), rtol=1e-5)


def test_a_batch_is_one_step():
    """Nine batches of u = 1, each halving the distance from level to 1. Validation comes after the last."""
    states, metrics = fit(least_squares(), dataset(1.0), epochs=1)
    np.testing.assert_allclose(states[0].decoder.level, [1.0 - 0.5**9], rtol=1e-6)
    np.testing.assert_allclose(metrics[0]["loss/decoder"], np.mean(0.25 ** np.arange(9)), rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["loss/decoder_validation"], 0.25**9, rtol=1e-3)


def test_the_weights_of_the_best_validation_loss_are_kept():
    """level = 1 - 0.96^(9 k) after k epochs; the held-out episodes want 0.75, and the fourth epoch comes closest."""
    phase, u = least_squares(learning_rate=0.02), np.ones((EPISODES, LENGTH))
    u[held_out(phase, dataset(u))] = 0.75
    states, metrics = fit(phase, dataset(u), epochs=6)
    levels = 1.0 - 0.96 ** (9 * np.arange(1, 7))
    losses = (levels - 0.75) ** 2
    np.testing.assert_allclose([s.decoder.level[0] for s in states], levels, rtol=1e-5)
    np.testing.assert_allclose([m["loss/decoder_validation"] for m in metrics], losses, rtol=1e-3)
    np.testing.assert_allclose([m["loss/decoder_best"] for m in metrics], np.minimum.accumulate(losses), rtol=1e-3)
    np.testing.assert_array_equal(phase.finish(CONTEXT, states[-1]).decoder.level, states[3].decoder.level)


def test_without_validation_the_newest_weights_are_kept():
    """A rate that diverges: each of the two batches an epoch multiplies level - 1 by -1.5, so the loss rises."""
    phase = least_squares(validation_fraction=0.0, learning_rate=1.25, batch_size=EPISODES * LENGTH // 2)
    states, metrics = fit(phase, dataset(1.0), epochs=2)
    np.testing.assert_allclose([s.decoder.level[0] for s in states], [1 - 1.5**2, 1 - 1.5**4], rtol=1e-5)
    assert metrics[1]["loss/decoder_best"] == metrics[1]["loss/decoder"] > metrics[0]["loss/decoder"]
    np.testing.assert_array_equal(phase.finish(CONTEXT, states[-1]).decoder.level, states[-1].decoder.level)


class Judged(Constant):
    """Chosen by -level, whatever the loss."""

    def validation_loss(self, obs, action, latent, *, key):
        return -self.level[0]


def test_weights_are_chosen_by_the_decoders_validation_loss():
    """The levels rise away from the held-out episodes' 0.

    The loss would choose the first epoch, and the validation loss chooses the last.
    """
    phase, u = least_squares(decoder=Judged, learning_rate=0.02), np.ones((EPISODES, LENGTH))
    u[held_out(phase, dataset(u))] = 0.0
    states, metrics = fit(phase, dataset(u), epochs=3)
    np.testing.assert_allclose(
        [m["loss/decoder_validation"] for m in metrics], [-s.decoder.level[0] for s in states], rtol=1e-5
    )
    np.testing.assert_array_equal(phase.finish(CONTEXT, states[-1]).decoder.level, states[2].decoder.level)


def test_a_poisoned_batch_is_skipped_and_counted():
    phase = least_squares(learning_rate=0.0, batch_size=450)
    training = np.setdiff1d(np.arange(EPISODES), held_out(phase, dataset(2.0)))
    u = np.full((EPISODES, LENGTH), 2.0)
    u[training[5], 3] = np.nan
    _, metrics = fit(phase, dataset(u), epochs=2)
    assert [m["updates_skipped"] for m in metrics] == [1.0, 1.0]
    np.testing.assert_allclose([m["loss/decoder"] for m in metrics], [4.0, 4.0], rtol=1e-5)  # of the batch that counts


def test_an_epoch_without_a_sound_update_is_never_the_best():
    phase = least_squares(validation_fraction=0.0)
    states, metrics = fit(phase, dataset(np.nan), epochs=1)
    assert metrics[0]["updates_skipped"] == 10.0
    assert np.isnan(metrics[0]["loss/decoder"]) and metrics[0]["loss/decoder_best"] == np.inf
    np.testing.assert_array_equal(phase.finish(CONTEXT, states[0]).decoder.level, [0.0])


def test_a_validation_loss_that_is_not_finite_is_a_divergence():
    """There is nothing to choose weights by: a fit that went on would hand on the untrained decoder."""
    phase, u = least_squares(), np.ones((EPISODES, LENGTH))
    u[held_out(phase, dataset(u))] = np.nan
    states, metrics = fit(phase, dataset(u), epochs=1)
    assert (metrics[0]["diverged"], metrics[0]["updates_skipped"]) == (1.0, 0.0)
    assert fit(phase, dataset(np.ones((EPISODES, LENGTH))), epochs=1)[1][0]["diverged"] == 0.0


def test_a_fit_hands_on_the_decoder_and_drops_the_dataset():
    phase = least_squares()
    state = start(phase, dataset(1.0))
    run = phase.finish(CONTEXT, state)
    assert run.policy is state.run.policy and run.learner is state.run.learner and run.dataset is None
    assert isinstance(run.decoder, Constant)


# ---- settings ----


def test_each_epoch_is_a_unit():
    units = fit_decoder(epochs=7).units(TASK)
    assert [(u.name, u.subset, u.env_steps) for u in units] == [("epoch", "fit", 0)] * 7


@pytest.mark.parametrize(
    "changes, episodes, message",
    [
        ({}, 0, r"FitDecoder has no data: put a CollectRollouts phase before it"),
        ({"epochs": 0}, 40, r"FitDecoder\.epochs = 0: it must be >= 1"),
        ({"validation_fraction": 1.0}, 40, r"FitDecoder\.validation_fraction = 1\.0: it must be in \[0, 1\)"),
        (
            {"batch_size": 901},
            40,
            r"FitDecoder\.batch_size = 901, .* 40 episodes of 25 steps, of which 900 steps are for training",
        ),
        ({"batch_size": 1}, 1, r"of which 0 steps are for training"),
        ({"selection": TopEpisodes(0.1)}, 40, r"of which 75 steps are for training"),
        ({"max_samples": 50}, 40, r"FitDecoder\.max_samples = 50: it must be at least FitDecoder\.batch_size = 100"),
        ({"split": "row"}, 40, r"FitDecoder\.split = 'row': it is 'episodes' or 'rows'\. Did you mean rows"),
    ],
)
def test_settings_are_checked(changes, episodes, message):
    with pytest.raises(ConfigError, match=message):
        fit_decoder(**changes).check(TASK, PhaseInputs(True, episodes, LENGTH))


def test_settings_that_fit_pass():
    assert fit_decoder(batch_size=900).check(TASK, PhaseInputs(True, 40, LENGTH)) == PhaseInputs(has_policy=True)


@pytest.mark.parametrize("size", [1, 20, 30, 99, 100, 1000], ids="{} of 100".format)
def test_gradients_added_up_over_pieces_of_a_batch_are_those_of_the_batch(size):
    """30 and 99 leave a smaller last piece; 100 and 1000 one whole batch. SGD shows a gradient's error in full."""
    data = dataset(
        two_modes(jax.random.key(3)), valid=np.arange(LENGTH)[None] < np.arange(EPISODES)[:, None] % LENGTH + 1
    )
    sgd = {"optimizer": OptaxCall(function=optax.sgd, numbers={}, options=()), "learning_rate": 0.1, "epochs": 2}
    whole, pieces = (fit(fit_decoder(micro_batch_size=s, **sgd), data) for s in (0, size))
    for a, b in zip(
        jax.tree.leaves(eqx.filter(whole[0][-1].decoder, eqx.is_array)),
        jax.tree.leaves(eqx.filter(pieces[0][-1].decoder, eqx.is_array)),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for one, other in zip(whole[1], pieces[1]):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(
    "size, expected", [(0, {100}), (30, {30, 10}), (50, {50}), (70, {70, 30}), (100, {100}), (500, {100})]
)
def test_no_piece_is_larger_than_asked_for(size, expected):
    seen = set()

    def total(rows, keys):
        seen.add(rows.shape[0])
        return jnp.sum(rows)

    assert accumulate(total, size, jnp.arange(100), jax.random.key(0)) == 4950
    assert seen == expected


def test_a_negative_micro_batch_size_is_refused():
    with pytest.raises(ConfigError, match="micro_batch_size = -1: it must be >= 0"):
        fit_decoder(micro_batch_size=-1).check(TASK, PhaseInputs(episodes=EPISODES, episode_length=LENGTH))


def test_the_learning_rate_falls_along_half_a_cosine():
    """Of 2 epochs of 9 batches of u = 1, update k of 18 has (1 + cos(pi k / 18)) / 2 of the rate 0.1."""
    phase = least_squares(anneal=True, learning_rate=0.1, epochs=2)
    states, _ = fit(phase, dataset(1.0))
    level, expected = 0.0, []
    for k in range(18):
        level += 2 * 0.1 * 0.5 * (1 + np.cos(np.pi * k / 18)) * (1 - level)
        expected.append(level)
    newest = [float(s.decoder.level[0]) for s in states]
    np.testing.assert_allclose(newest, [expected[8], expected[17]], rtol=1e-5)
