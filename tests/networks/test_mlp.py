import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.errors import ConfigError
from gorl.networks import MLP, LayerNormMLP, trainable

LECUN = jax.nn.initializers.lecun_uniform


def mlp(key, in_size=300, out_size=20, *, width=200, depth=2, activation=jax.nn.silu, output_scale=1.0):
    return MLP(
        in_size,
        out_size,
        width=width,
        depth=depth,
        activation=activation,
        initializer=LECUN,
        output_scale=output_scale,
        key=key,
    )


def test_lecun_uniform_fills_its_bounds(getkey):
    for layer, in_size in zip(mlp(getkey()).layers, (300, 200, 200)):
        bound = np.sqrt(3.0 / in_size)
        weight = np.asarray(layer.weight)
        assert 0.99 * bound < np.max(np.abs(weight)) <= bound * (1 + 1e-6)
        np.testing.assert_allclose(np.var(weight), 1.0 / in_size, rtol=0.05)
        assert not np.any(layer.bias)


def test_layers_are_drawn_apart(getkey):
    network = mlp(getkey(), in_size=50, out_size=50, width=50, depth=2)
    first, second, third = (np.asarray(layer.weight) for layer in network.layers)
    assert not np.allclose(first, second) and not np.allclose(second, third) and not np.allclose(first, third)


def test_output_scale_multiplies_the_last_layer_only(getkey):
    key = getkey()
    plain, scaled = mlp(key), mlp(key, output_scale=0.01)
    for a, b, scale in zip(plain.layers, scaled.layers, (1.0, 1.0, 0.01)):
        np.testing.assert_allclose(b.weight, scale * a.weight, rtol=1e-6)


def test_by_numpy(getkey):
    network = mlp(getkey(), in_size=3, out_size=2, width=4, depth=2, activation=jnp.tanh)
    biased = jax.tree.map(lambda x: jnp.asarray(np.asarray(x) + 0.1, jnp.float32), network)
    x = np.array([0.5, -1.0, 2.0])
    (w0, b0), (w1, b1), (w2, b2) = (
        (np.asarray(y.weight, np.float64), np.asarray(y.bias, np.float64)) for y in biased.layers
    )
    expected = w2 @ np.tanh(w1 @ np.tanh(w0 @ x + b0) + b1) + b2
    np.testing.assert_allclose(biased(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)


def test_depth_0_is_linear(getkey):
    network = mlp(getkey(), in_size=3, out_size=2, depth=0)
    assert len(network.layers) == 1
    np.testing.assert_allclose(network(jnp.ones(3)), jnp.sum(network.layers[0].weight, axis=1), rtol=1e-5)


def test_vmap_works_row_by_row(getkey):
    network = mlp(getkey(), in_size=3, out_size=2, width=4)
    x = jax.random.normal(getkey(), (5, 6, 3))
    y = jax.vmap(jax.vmap(network))(x)
    assert y.shape == (5, 6, 2)
    np.testing.assert_allclose(y[2, 3], network(x[2, 3]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"depth": -1}])
def test_sizes_are_checked(getkey, sizes):
    with pytest.raises(ConfigError, match=r"width must be >= 1 and depth >= 0"):
        mlp(getkey(), **sizes)


def test_layer_norm_by_numpy(getkey):
    network = LayerNormMLP(
        3, 2, width=4, depth=2, activation=jnp.tanh, initializer=LECUN, output_scale=1.0, key=getkey()
    )
    rng = np.random.default_rng(0)
    network = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + 0.3 * rng.standard_normal(x.shape), jnp.float32), network
    )
    (w0, b0), (w1, b1), (w2, b2) = (
        (np.asarray(y.weight, np.float64), np.asarray(y.bias, np.float64)) for y in network.layers
    )

    def normed(x, norm):
        standard = (x - np.mean(x)) / np.sqrt(np.var(x) + norm.eps)
        return np.asarray(norm.weight) * standard + np.asarray(norm.bias)

    x = np.array([0.5, -1.0, 2.0])
    hidden = normed(np.tanh(w0 @ x + b0), network.norms[0])
    expected = w2 @ normed(np.tanh(w1 @ hidden + b1), network.norms[1]) + b2
    np.testing.assert_allclose(network(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4)


def test_layer_norms_are_trained(getkey):
    network = LayerNormMLP(
        3, 1, width=4, depth=1, activation=jnp.tanh, initializer=LECUN, output_scale=1.0, key=getkey()
    )
    slope = eqx.filter_grad(lambda n: n(jnp.array([0.5, -1.0, 2.0]))[0])(network)
    assert trainable(network).norms[0].weight and trainable(network).norms[0].bias
    assert np.any(np.asarray(slope.norms[0].weight)) and np.any(np.asarray(slope.norms[0].bias))


def test_layer_norm_sizes_are_checked(getkey):
    with pytest.raises(ConfigError, match=r"LayerNormMLP\.width = 0"):
        LayerNormMLP(3, 1, width=0, depth=1, activation=jnp.tanh, initializer=LECUN, output_scale=1.0, key=getkey())
