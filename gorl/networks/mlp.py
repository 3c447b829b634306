"""Function approximators. Sizes and keys come from the caller; everything else from the configuration."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, structural


class Linear(eqx.Module):
    """x -> W x + b with a chosen initialiser for W and b = 0."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, initializer: Callable, scale: float = 1.0, key: PRNGKeyArray):
        self.weight = scale * initializer(in_axis=1, out_axis=0)(key, (out_size, in_size), jnp.float32)
        self.bias = jnp.zeros((out_size,), jnp.float32)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.weight @ x + self.bias


@gin.register(module="gorl", denylist=["in_size", "out_size", "key"])
class MLP(eqx.Module):
    """Multi-layer perceptron on one unbatched vector; `jax.vmap` it over batches.

    `width`: units of a hidden layer; `depth`: hidden layers; `initializer`: a constructor of a JAX initialiser, such as
    `jax.nn.initializers.lecun_uniform`; `output_scale` multiplies the last layer's initial weights.
    """

    layers: tuple[Linear, ...]
    activation: Callable = structural()

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        width: int,
        depth: int,
        activation: Callable,
        initializer: Callable,
        output_scale: float,
        key: PRNGKeyArray,
    ):
        require(width >= 1 and depth >= 0, f"MLP.width = {width}, MLP.depth = {depth}: width must be >= 1 and depth >= 0.")
        sizes = (in_size, *[width] * depth, out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        scales = (*[1.0] * depth, output_scale)
        self.layers = tuple(Linear(i, o, initializer=initializer, scale=s, key=k) for i, o, s, k in zip(sizes, sizes[1:], scales, keys))
        self.activation = activation

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)
