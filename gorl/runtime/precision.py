"""The precision of networks' matrix products. Weights, sums and all else are float32, and so is physics."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

PRECISIONS = ("highest", "high", "default", "tensorfloat32", "bfloat16")
"""By the names of `jax.default_matmul_precision`."""

_MANTISSA_BITS = {"tensorfloat32": 10, "bfloat16": 7, "BF16_BF16_F32": 7}


def matrix_products(precision: str) -> contextlib.AbstractContextManager:
    """What programs are traced in, for an `Experiment.precision`. Starts the device."""
    # JAX's 'bfloat16' leaves the product to the device (TF32 on a GPU); XLA's CPU has not every product of the other name.
    exact = precision == "bfloat16" and jax.default_backend() != "cpu"
    return jax.default_matmul_precision("BF16_BF16_F32" if exact else precision)


def product(weight: Float[Array, "out in"], x: Float[Array, " in"]) -> Float[Array, " out"]:
    """weight x at the precision around it.

    The factors are rounded here, and in the backward pass the cotangent, since a device without such products (a CPU)
    computes them in float32 whatever is asked: results then show what the precision does to learning, if not its speed.
    """
    bits = _MANTISSA_BITS.get(jax.config.jax_default_matmul_precision)
    if bits is None:
        return x @ weight.T
    return _rounded_back(bits, _rounded(bits, x) @ _rounded(bits, weight).T)


def _rounded(bits: int, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded_back(bits: int, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x, whose cotangent is rounded."""
    del bits
    return x


_rounded_back.defvjp(lambda bits, x: (x, None), lambda bits, _, cotangent: (_rounded(bits, cotangent),))


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Its matrix products are float32 whatever the precision around it: physics does not take less."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return call
