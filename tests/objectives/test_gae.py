import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.objectives.gae import BraxAdvantage, GeneralizedAdvantage, generalized_advantage

# discount = lambda = 0.5 and, without any end:
#   d0 = 1 + 0.5·2 - 1 = 1    d1 = 4 + 0.5·4 - 2 = 4    d2 = 3 + 0.5·8 - 4 = 3
#   A2 = 3    A1 = 4 + 0.25·3 = 4.75    A0 = 1 + 0.25·4.75 = 2.1875
REWARD, VALUE, NEXT_VALUE = [1.0, 4.0, 3.0], [1.0, 2.0, 4.0], [2.0, 4.0, 8.0]


def compile(estimator):
    return jax.jit(lambda *x: estimator(*x[:-2], discount=x[-2], gae_lambda=x[-1]))


compiled, brax = compile(generalized_advantage), compile(BraxAdvantage())


def gae(
    reward, value, next_value, terminated=(), truncated=(), invalid=(), discount=0.5, gae_lambda=0.5, compiled=compiled
):
    """`terminated`, `truncated`, `invalid`: the steps that are."""
    marked = lambda steps: jnp.asarray(np.isin(np.arange(len(reward)), steps))
    numbers = (jnp.asarray(x, jnp.float32) for x in (reward, value, next_value))
    ends = (marked(terminated), marked(truncated), ~marked(invalid))
    return compiled(*numbers, *ends, jnp.float32(discount), jnp.float32(gae_lambda))


def check(result, advantage, target):
    np.testing.assert_allclose(result[0], advantage, rtol=1e-6)
    np.testing.assert_allclose(result[1], target, rtol=1e-6)


def test_without_an_end_the_last_step_bootstraps():
    check(gae(REWARD, VALUE, NEXT_VALUE), [2.1875, 4.75, 3.0], [3.1875, 6.75, 7.0])


def test_termination_neither_bootstraps_nor_carries():
    # d1 = 4 - 2 = 2 = A1    A0 = 1 + 0.25·2 = 1.5
    check(gae(REWARD, VALUE, NEXT_VALUE, terminated=[1]), [1.5, 2.0, 3.0], [2.5, 4.0, 7.0])


def test_truncation_bootstraps_but_does_not_carry():
    # d1 = 4 = A1    A0 = 1 + 0.25·4 = 2
    check(gae(REWARD, VALUE, NEXT_VALUE, truncated=[1]), [2.0, 4.0, 3.0], [3.0, 6.0, 7.0])


def test_an_invalid_step_has_no_advantage_whatever_its_numbers_are():
    # A1 = 0, target V(s1) = 2    A0 = 1 + 0.25·0
    reward, next_value = [1.0, np.nan, 3.0], [2.0, np.inf, 8.0]
    check(gae(reward, VALUE, next_value, invalid=[1]), [1.0, 0.0, 3.0], [2.0, 2.0, 7.0])


def test_termination_at_the_last_step():
    # A2 = 3 - 4 = -1    A1 = 4 - 0.25    A0 = 1 + 0.25·3.75
    check(gae(REWARD, VALUE, NEXT_VALUE, terminated=[2]), [1.9375, 3.75, -1.0], [2.9375, 5.75, 3.0])


def episode(length=40):
    rng = np.random.default_rng(0)
    reward, value = rng.standard_normal(length), rng.standard_normal(length + 1)
    return reward, value[:-1], value[1:]


def test_lambda_0_is_the_one_step_error():
    reward, value, next_value = episode()
    advantage, target = gae(reward, value, next_value, discount=0.9, gae_lambda=0.0)
    np.testing.assert_allclose(advantage, reward + 0.9 * next_value - value, atol=1e-5)
    np.testing.assert_allclose(target, reward + 0.9 * next_value, atol=1e-5)


def test_lambda_1_is_the_discounted_return():
    reward, value, next_value = episode()
    advantage, target = gae(reward, value, next_value, discount=0.9, gae_lambda=1.0)
    returns = [
        sum(0.9**k * r for k, r in enumerate(reward[t:])) + 0.9 ** (len(reward) - t) * next_value[-1]
        for t in range(len(reward))
    ]
    np.testing.assert_allclose(target, returns, atol=1e-4)
    np.testing.assert_allclose(advantage, returns - value, atol=1e-4)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_equals_the_double_sum(gae_lambda):
    """A_t = sum over k >= t of (discount lambda)^(k - t) d_k, up to and with the first end at or after t."""
    reward, value, next_value = episode()
    next_value = next_value + 1.0  # V of the true next observation need not be the next step's V
    ends = {"terminated": [3, 30], "truncated": [11, 12], "invalid": [20]}
    advantage, _ = gae(reward, value, next_value, **ends, discount=0.9, gae_lambda=gae_lambda)
    live = np.where(np.isin(np.arange(40), ends["terminated"]), 0.0, 1.0)
    delta = np.where(np.arange(40) == 20, 0.0, reward + 0.9 * live * next_value - value)
    stops = sorted(sum(ends.values(), [])) + [39]
    for t in range(40):
        stop = min(s for s in stops if s >= t)
        expected = sum((0.9 * gae_lambda) ** (k - t) * delta[k] for k in range(t, stop + 1))
        np.testing.assert_allclose(advantage[t], expected, atol=1e-5)


def test_jit_changes_nothing():
    call = lambda: gae(
        REWARD, VALUE, NEXT_VALUE, terminated=[1], truncated=[0], invalid=[2], discount=0.9, gae_lambda=0.8
    )
    with jax.disable_jit():
        plain = call()
    check(call(), *map(np.asarray, plain))


def test_the_module_is_the_function():
    ends = {"terminated": [3, 30], "truncated": [11, 12], "invalid": [20]}
    check(gae(*episode(), **ends, compiled=compile(GeneralizedAdvantage())), *map(np.asarray, gae(*episode(), **ends)))


@pytest.mark.parametrize(
    "ends, advantage, target",
    [
        # vs = (3.1875, 6.75, 7) as for GAE; r + vs'/2 - v: 1 + 3.375 - 1, 4 + 3.5 - 2, 3 + 4 - 4
        ({}, [3.375, 5.5, 3.0], [3.1875, 6.75, 7.0]),
        # d1 = 2, so vs = (1 + 1.5, 4, 7): 1 + 4/2 - 1, 4 - 2
        ({"terminated": [1]}, [2.0, 2.0, 3.0], [2.5, 4.0, 7.0]),
        # the defect: step 1 has no error, so vs = (1 + 1, 2, 7) and its advantage is 0: 1 + 2/2 - 1
        ({"truncated": [1]}, [1.0, 0.0, 3.0], [2.0, 2.0, 7.0]),
        ({"invalid": [1]}, [1.0, 0.0, 3.0], [2.0, 2.0, 7.0]),
    ],
)
def test_brax_by_hand(ends, advantage, target):
    check(gae(REWARD, VALUE, NEXT_VALUE, **ends, compiled=brax), advantage, target)


def test_brax_at_lambda_0_looks_two_steps_ahead():
    reward, value, next_value = episode()
    advantage, _ = gae(reward, value, next_value, discount=0.9, gae_lambda=0.0, compiled=brax)
    expected = reward[:-1] + 0.9 * (reward[1:] + 0.9 * next_value[1:]) - value[:-1]
    np.testing.assert_allclose(advantage[:-1], expected, atol=1e-5)


def test_brax_at_lambda_1_is_gae():
    reward, value, next_value = episode()
    for ends in ({}, {"terminated": [3, 30]}):
        results = [
            gae(reward, value, next_value, **ends, discount=0.9, gae_lambda=1.0, compiled=c) for c in (brax, compiled)
        ]
        np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)
