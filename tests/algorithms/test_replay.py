import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.algorithms import replay
from gorl.algorithms.replay import Experience, Replay
from gorl.environments.toy import Slider


def numbered(first, count):
    """Transitions whose reward is their number."""
    number = first + jnp.arange(count, dtype=jnp.float32)
    pair = jnp.stack([number, -number], axis=1)
    no = jnp.zeros(count, bool)
    return Experience(pair, None, number[:, None], number, pair + 0.5, None, no, ~no)


def filled(buffer, total, step=3):
    state = jax.tree.map(jnp.asarray, buffer.empty(Slider()))
    for first in range(0, total, step):
        state = buffer.add(state, numbered(first, step))
    return state


@pytest.mark.parametrize("total, kept", [(6, range(6)), (9, range(9)), (12, range(2, 12)), (33, range(23, 33))])
def test_the_newest_transitions_are_kept(getkey, total, kept):
    buffer = Replay(10, 6, 10)
    state = filled(buffer, total)
    assert buffer.size(state) == len(kept)
    drawn = buffer.sample(state, 40, key=getkey())
    assert drawn.obs.shape == (40, 10, 2) and drawn.reward.shape == (40, 10)
    assert set(np.asarray(drawn.reward).reshape(-1)) == set(
        map(float, kept)
    )  # each missed with probability 10 · 0.9^400
    np.testing.assert_array_equal(drawn.obs[..., 1], -drawn.reward)
    np.testing.assert_array_equal(drawn.next_obs[..., 0], drawn.reward + 0.5)
    assert np.any(drawn.reward[0] != drawn.reward[1])


def test_sampling_is_uniform(getkey):
    """A chi-squared of 9 degrees of freedom: 40 is exceeded with probability 1e-5."""
    buffer = Replay(10, 1, 10)
    drawn = np.asarray(buffer.sample(filled(buffer, 33), 500, key=getkey()).reward)
    counts = np.array([np.sum(drawn == x) for x in range(23, 33)])
    assert np.sum((counts - 500.0) ** 2 / 500.0) < 40


def test_ready_from_the_smallest_size_on():
    buffer = Replay(10, 6, 2)
    assert [bool(buffer.ready(filled(buffer, n))) for n in (0, 3, 6, 9, 12, 15)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_adding_to_a_donated_buffer_copies_nothing_of_its_size(getkey):
    """In a scan that also samples: no copy of the stored array among the compiled instructions."""
    buffer = Replay(4096, 1, 8)

    def run(state, key):
        def step(state, x):
            first, key = x
            state = buffer.add(state, numbered(first, 3))
            return state, jnp.sum(buffer.sample(state, 2, key=key).reward)

        return jax.lax.scan(step, state, (jnp.arange(5.0), jax.random.split(key, 5)))

    donated, plain = (
        jax.jit(run, donate_argnums=d).lower(buffer.empty(Slider()), getkey()).compile().as_text() for d in ((0,), ())
    )
    copies = lambda text: [
        line for line in text.splitlines() if " copy(" in line and "f32[1,4096,2]" in line.split("copy(")[0]
    ]
    assert "f32[1,4096,2]" in donated and copies(donated) == []
    assert copies(plain) != []  # as it would look


def test_a_huge_buffer_is_mentioned(monkeypatch):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("gorl.algorithms.replay").addHandler(handler)
    monkeypatch.setattr(replay, "LARGE_BUFFER", 26_000)
    try:
        for capacity in (900, 1001, 1001):
            Replay(capacity, 1, 8).empty(Slider())
    finally:
        logging.getLogger("gorl.algorithms.replay").removeHandler(handler)
    assert said == [
        "the replay buffer of 1,001 transitions takes 0.0 GiB of memory for each seed, "
        "and as much in every checkpoint; replay_capacity sets it."
    ]  # 26 bytes each; once
