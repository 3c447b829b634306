import jax
import jax.numpy as jnp
import numpy as np

from gorl.objectives.td_lambda import soft_lambda_targets

REWARD, BONUS, NEXT_VALUE = [1.0, 4.0, 3.0], [9.0, 2.0, 6.0], [2.0, 4.0, 8.0]

compiled = jax.jit(lambda *x: soft_lambda_targets(*x[:-2], discount=x[-2], td_lambda=x[-1]))


def targets(terminated=(), truncated=(), invalid=(), td_lambda=0.5, discount=0.5, **changes):
    """`terminated`, `truncated`, `invalid`: the steps that are."""
    marked = lambda steps: jnp.asarray(np.isin(np.arange(3), steps))
    numbers = {"reward": REWARD, "bonus": BONUS, "next_value": NEXT_VALUE, **changes}
    numbers = [jnp.asarray(x, jnp.float32) for x in numbers.values()]
    ends = marked(terminated), marked(truncated), ~marked(invalid)
    return np.asarray(compiled(*numbers, *ends, jnp.float32(discount), jnp.float32(td_lambda)))


def test_without_an_end_the_last_step_bootstraps():
    """y2 = 3 + 0.5 8 = 7; y1 = 4 + 0.5 (0.5 4 + 0.5 (7 + 6)) = 8.25; y0 = 1 + 0.5 (0.5 2 + 0.5 (8.25 + 2)) = 4.0625."""
    np.testing.assert_allclose(targets(), [4.0625, 8.25, 7.0])


def test_termination_has_nothing_after_it():
    """y1 = 4; y0 = 1 + 0.5 (1 + 0.5 (4 + 2)) = 3."""
    np.testing.assert_allclose(targets(terminated=[1]), [3.0, 4.0, 7.0])
    np.testing.assert_allclose(targets(terminated=[1, 2]), [3.0, 4.0, 3.0])


def test_truncation_bootstraps_from_the_observation_before_the_reset_and_cuts():
    """y1 = 4 + 0.5 4 = 6; y0 = 1 + 0.5 (1 + 0.5 (6 + 2)) = 3.5."""
    np.testing.assert_allclose(targets(truncated=[1]), [3.5, 6.0, 7.0])
    np.testing.assert_allclose(targets(truncated=[0], terminated=[1]), [2.0, 4.0, 7.0])


def test_the_step_before_an_invalid_one_bootstraps():
    """y0 = 1 + 0.5 2 = 2, whatever the numbers of step 1 are."""
    for value in (7.0, np.nan, np.inf):
        bad = [[x[0], value, x[2]] for x in (REWARD, BONUS, NEXT_VALUE)]
        found = targets(invalid=[1], **dict(zip(("reward", "bonus", "next_value"), bad)))
        np.testing.assert_allclose(found, [2.0, 0.0, 7.0])


def test_with_lambda_0_a_target_looks_one_step_ahead():
    """y = r + discount V, and no bonus of a taken action counts: V has its own."""
    np.testing.assert_allclose(targets(td_lambda=0.0), [2.0, 6.0, 7.0])
    np.testing.assert_allclose(targets(td_lambda=0.0, bonus=[1e3] * 3), [2.0, 6.0, 7.0])


def test_with_lambda_1_a_target_is_the_soft_return():
    """y0 = r0 + 0.5 (r1 + bonus1) + 0.25 (r2 + bonus2) + 0.125 V3."""
    found = targets(td_lambda=1.0)
    np.testing.assert_allclose(found[0], 1 + 0.5 * (4 + 2) + 0.25 * (3 + 6) + 0.125 * 8)
    np.testing.assert_allclose(targets(td_lambda=1.0, next_value=[1e3, 1e3, 8.0]), found)


def test_values_that_agree_with_each_other_are_their_own_targets_at_every_lambda():
    """With V(s') = y' + bonus' and no other number, lambda makes no difference."""
    y2 = 3.0 + 0.5 * 8.0
    y1 = 4.0 + 0.5 * (y2 + 6.0)
    for td_lambda in (0.0, 0.3, 1.0):
        found = targets(td_lambda=td_lambda, next_value=[y1 + 2.0, y2 + 6.0, 8.0])
        np.testing.assert_allclose(found, [1.0 + 0.5 * (y1 + 2.0), y1, y2], rtol=1e-6)
