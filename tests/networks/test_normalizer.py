import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.networks import MLP, AbstractNormalizer, RunningNormalizer, ShrinkingNormalizer, trainable

SIZES = (1, 7, 300, 2, 64, 1000, 13)
OFFSET, SCALE = np.array([1e4, -3e3, 0.0]), np.array([1.0, 5.0, 0.01])


update = jax.jit(lambda normalizer, x, weight: normalizer.update(x, weight))


def uneven_batches(rng):
    """float32 batches of very different sizes and places, some rows without weight."""
    for i, size in enumerate(SIZES * 4):
        x = (OFFSET + SCALE * (rng.standard_normal((size, 3)) + np.sin(i))).astype(np.float32)
        yield x, (rng.random(size) < 0.7).astype(np.float32) * (1.0 if i % 2 else 0.5)


def test_agrees_with_numpy_over_uneven_weighted_batches():
    batches = list(uneven_batches(np.random.default_rng(0)))
    normalizer = RunningNormalizer(3, epsilon=1e-12, clip=np.inf)
    for x, weight in batches:
        normalizer = update(normalizer, x, weight)
    x = np.concatenate([b[0] for b in batches]).astype(np.float64)
    weight = np.concatenate([b[1] for b in batches]).astype(np.float64)
    mean = np.average(x, axis=0, weights=weight)
    variance = np.average((x - mean) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(normalizer.count, weight.sum())
    np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(normalizer.variance, variance, rtol=2e-3)
    point = (mean + 2.0 * np.sqrt(variance)).astype(np.float32)
    np.testing.assert_allclose(normalizer(jnp.asarray(point)), [2.0, 2.0, 2.0], atol=5e-3)


def test_the_variance_does_not_shrink_with_the_number_of_updates(getkey):
    data = 2.0 * np.asarray(jax.random.normal(getkey(), (200, 256, 1)))
    normalizer = RunningNormalizer(1, epsilon=1e-6, clip=10.0)
    for i in range(200):
        normalizer = update(normalizer, data[i], np.ones(256, np.float32))
        if i in (0, 9, 49, 199):
            np.testing.assert_allclose(jnp.sqrt(normalizer.variance), 2.0, rtol=0.1)
    np.testing.assert_allclose(jnp.sqrt(normalizer.variance), 2.0, rtol=0.01)


def test_the_published_defect_shrinks_the_deviation_like_1_over_the_root_of_the_updates(getkey):
    data = 3.0 + 2.0 * np.asarray(jax.random.normal(getkey(), (200, 256, 1)))
    normalizer, measured = ShrinkingNormalizer(1, epsilon=1e-6, clip=1e6), {}
    for i in range(200):
        normalizer = update(normalizer, data[i], np.ones(256, np.float32))
        measured[i + 1] = float(jnp.sqrt(normalizer.variance)[0])
    np.testing.assert_allclose([measured[n] for n in (1, 2, 10, 50, 200)], [2.0, 1.41, 0.63, 0.28, 0.14], rtol=0.1)
    np.testing.assert_allclose(normalizer.mean, np.mean(data, axis=(0, 1)), rtol=1e-4)  # the mean is right
    np.testing.assert_allclose(normalizer.count, 200 * 256)
    np.testing.assert_allclose(normalizer(jnp.array([5.0])), [2.0 / 0.1414], rtol=0.1)  # one deviation shows as 14


def test_the_published_defect_by_hand():
    normalizer = ShrinkingNormalizer(1, epsilon=0.0, clip=10.0)
    np.testing.assert_allclose(normalizer(jnp.array([0.5])), [0.5])
    first = normalizer.update(jnp.array([[1.0], [5.0]]), jnp.ones(2))  # deviations -2, 2: squares 8, of 2 samples
    np.testing.assert_allclose([first.mean[0], first.variance[0]], [3.0, 4.0])
    second = first.update(jnp.array([[8.0], [np.nan], [10.0]]), jnp.array([1.0, 0.0, 1.0]))  # squares 2, of 4 samples
    np.testing.assert_allclose([second.mean[0], second.variance[0], second.count], [6.0, 0.5, 4.0])
    again = second.update(jnp.ones((3, 1)), jnp.zeros(3))
    np.testing.assert_allclose([again.mean[0], again.variance[0], again.count], [6.0, 0.5, 4.0])


def test_one_large_batch_is_summed_precisely():
    x = (OFFSET + SCALE * np.random.default_rng(0).standard_normal((400_000, 3))).astype(np.float32)
    normalizer = update(RunningNormalizer(3, epsilon=1e-12, clip=np.inf), x, np.ones(len(x), np.float32))
    reference = x.astype(np.float64)
    np.testing.assert_allclose(normalizer.mean, np.mean(reference, axis=0), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(normalizer.variance, np.var(reference, axis=0), rtol=1e-4)


def test_is_the_identity_before_any_data():
    x = jnp.array([0.5, -3.0, 20.0])
    np.testing.assert_allclose(RunningNormalizer(3, epsilon=0.0, clip=10.0)(x), [0.5, -3.0, 10.0])


def test_by_hand():
    # 1 and 5: mean 3, variance 4; epsilon 5 makes the divisor 3
    normalizer = RunningNormalizer(1, epsilon=5.0, clip=2.0).update(jnp.array([[1.0], [5.0]]), jnp.ones(2))
    np.testing.assert_allclose(normalizer(jnp.array([4.5])), [0.5])
    np.testing.assert_allclose(normalizer(jnp.array([-97.0])), [-2.0])


def test_rows_without_weight_do_not_count_whatever_they_hold():
    normalizer = RunningNormalizer(1, epsilon=0.0, clip=10.0)
    x = jnp.array([[1.0], [np.nan], [5.0], [1e30]])
    updated = normalizer.update(x, jnp.array([1.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose([updated.count, updated.mean[0], updated.variance[0]], [2.0, 3.0, 4.0])
    again = updated.update(x, jnp.zeros(4))
    np.testing.assert_allclose([again.count, again.mean[0], again.variance[0]], [2.0, 3.0, 4.0])


class Network(eqx.Module):
    normalizer: AbstractNormalizer
    body: MLP

    def __call__(self, x):
        return jnp.sum(self.body(self.normalizer(x)))


@pytest.mark.parametrize("kind", [RunningNormalizer, ShrinkingNormalizer])
def test_is_not_trained(getkey, kind):
    body = MLP(
        2,
        1,
        width=3,
        depth=1,
        activation=jax.nn.tanh,
        initializer=jax.nn.initializers.lecun_uniform,
        output_scale=1.0,
        key=getkey(),
    )
    network = Network(kind(2, epsilon=1e-6, clip=10.0), body)
    params = eqx.filter(network, trainable(network))
    assert jax.tree.leaves(params.normalizer) == []
    assert len(jax.tree.leaves(params)) == 4  # two weights, two biases
    gradient = eqx.filter_grad(lambda n: n(jnp.ones(2)))(network)  # and even where it is not left out
    assert all(not jnp.any(g) for g in jax.tree.leaves(gradient.normalizer))
    assert all(jnp.any(g) for g in jax.tree.leaves(gradient.body))
