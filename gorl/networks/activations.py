"""Activations: a check, and one whose derivative is cheaper than JAX's."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.errors import ConfigError


@jax.custom_jvp
def silu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns x sigmoid(x), as `jax.nn.silu` does, with a cheaper backward pass.

    The backward pass reads one stored array, the slope, where JAX's reads the factors of a product. On a CPU a wide
    layer's work between its matrix products is bound by memory.
    """
    return jax.nn.silu(x)


@silu.defjvp
def _silu_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    gate = jax.nn.sigmoid(x)
    y = x * gate
    return y, (gate + y * (1.0 - gate)) * dx


def with_cheap_gradient(activation: Callable) -> Callable:
    """Returns the version of an activation with the cheapest derivative. The values are the same."""
    return silu if activation is jax.nn.silu else activation


@functools.cache
def require_activation(activation: Callable, where: str) -> None:
    """Raises ConfigError unless the function maps a vector to a vector of its size. Nothing is compiled."""
    name = getattr(activation, "__name__", repr(activation))
    given = jax.ShapeDtypeStruct((3,), jnp.float32)
    try:
        found = jax.eval_shape(activation, given)
    except Exception as err:
        found = f"{type(err).__name__}: {str(err).partition(chr(10))[0]}"
    if getattr(found, "shape", None) != given.shape or found.dtype != given.dtype:
        said = found if isinstance(found, str) else "it makes something else of a vector"
        raise ConfigError(
            f"{where} = {name} is no activation ({said}). Write a function of one array, such as %jax.nn.silu."
        )
