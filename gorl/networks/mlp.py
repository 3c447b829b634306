"""Multi-layer perceptrons. Sizes and keys come from the caller, everything else from the configuration."""

import math
from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import LARGEST_SIZE, require, structural
from gorl.networks.activations import require_activation, with_cheap_gradient
from gorl.runtime.precision import product

MOST_LAYERS = 1000  # each is compiled by itself


class Linear(eqx.Module):
    """An affine layer, x -> W x + b. `initializer` initializes W; b starts at 0."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, initializer: Callable, scale: float = 1.0, key: PRNGKeyArray):
        self.weight = scale * initializer(in_axis=1, out_axis=0)(key, (out_size, in_size), jnp.float32)
        self.bias = jnp.zeros((out_size,), jnp.float32)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return product(self.weight, x) + self.bias


@gin.register(module="gorl", denylist=["in_size", "out_size", "key"])
class MLP(eqx.Module):
    """A multi-layer perceptron on one unbatched vector; `jax.vmap` it over batches.

    `width` is the number of units of a hidden layer and `depth` the number of hidden layers. `initializer` is a
    constructor of a JAX initializer, such as `jax.nn.initializers.lecun_uniform`. `output_scale` multiplies the last
    layer's initial weights.
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
        self.layers = _layers("MLP", in_size, out_size, width, depth, activation, initializer, output_scale, key)
        self.activation = activation

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        *hidden, last = self.layers
        activation = with_cheap_gradient(self.activation)
        for layer in hidden:
            x = activation(layer(x))
        return last(x)


@gin.register(module="gorl", denylist=["in_size", "out_size", "key"])
class LayerNormMLP(eqx.Module):
    """An MLP whose hidden layers are normalized after their activation, with a trained scale and offset.

    Source: Ba et al., arXiv 1607.06450, in the order of Brax. The last layer's input is bounded, so a critic
    extrapolates less. Arguments and shapes are those of `MLP`.
    """

    layers: tuple[Linear, ...]
    norms: tuple[eqx.nn.LayerNorm, ...]
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
        self.layers = _layers(
            "LayerNormMLP", in_size, out_size, width, depth, activation, initializer, output_scale, key
        )
        self.norms = tuple(eqx.nn.LayerNorm(width) for _ in range(depth))
        self.activation = activation

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        *hidden, last = self.layers
        activation = with_cheap_gradient(self.activation)
        for layer, norm in zip(hidden, self.norms):
            x = norm(activation(layer(x)))
        return last(x)


def _layers(
    name: str,
    in_size: int,
    out_size: int,
    width: int,
    depth: int,
    activation: Callable,
    initializer: Callable,
    output_scale: float,
    key: PRNGKeyArray,
) -> tuple[Linear, ...]:
    """Returns `depth` hidden layers and a last one whose initial weights are scaled."""
    require_activation(activation, f"{name}.activation")
    require(
        width >= 1 and depth >= 0, f"{name}.width = {width}, {name}.depth = {depth}: width must be >= 1 and depth >= 0."
    )
    require(depth <= MOST_LAYERS, f"{name}.depth = {depth}: it must be at most {MOST_LAYERS}.")
    largest = width * max(in_size, out_size, width if depth > 1 else 1)
    require(
        largest <= LARGEST_SIZE,
        f"{name}.width = {width}: a layer would have {largest:_} weights; the limit is {LARGEST_SIZE:_}. Lower it.",
    )
    require(math.isfinite(output_scale), f"{name}.output_scale = {output_scale}: it must be finite.")
    sizes = (in_size, *[width] * depth, out_size)
    keys = jax.random.split(key, len(sizes) - 1)
    scales = (*[1.0] * depth, output_scale)
    return tuple(
        Linear(i, o, initializer=initializer, scale=s, key=k) for i, o, s, k in zip(sizes, sizes[1:], scales, keys)
    )
