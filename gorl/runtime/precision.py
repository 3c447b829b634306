"""The precision of networks' matrix products. Weights, sums, physics and everything else are float32."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

PRECISIONS = ("highest", "high", "default", "tensorfloat32", "bfloat16")
"""The choices, named as in `jax.default_matmul_precision`."""

_MANTISSA_BITS = {"tensorfloat32": 10, "bfloat16": 7, "BF16_BF16_F32": 7}


def matrix_products(precision: str) -> contextlib.AbstractContextManager:
    """Context manager that sets the precision of matrix products while programs are traced.

    `precision` is one of PRECISIONS, such as `Experiment.precision`. Starts the device.
    """
    # JAX's 'bfloat16' leaves the choice of product to the device (TF32 on a GPU). The other name is exact, but XLA's
    # CPU backend does not support it for every product.
    exact = precision == "bfloat16" and jax.default_backend() != "cpu"
    return jax.default_matmul_precision("BF16_BF16_F32" if exact else precision)


def product(weight: Float[Array, "out in"], x: Float[Array, " in"]) -> Float[Array, " out"]:
    """Returns weight x, at the precision that `matrix_products` has set.

    The factors are rounded here, and so is the cotangent in the backward pass. A device without such products (a CPU)
    computes them in float32 whatever the precision. Results then show the effect of the precision on learning, if not
    on speed.
    """
    bits = _MANTISSA_BITS.get(jax.config.jax_default_matmul_precision)
    if bits is None:
        return x @ weight.T
    return _round_cotangent(bits, _round_mantissa(bits, x) @ _round_mantissa(bits, weight).T)


def _round_mantissa(bits: int, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _round_cotangent(bits: int, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x unchanged. Its cotangent is rounded."""
    del bits
    return x


_round_cotangent.defvjp(lambda bits, x: (x, None), lambda bits, _, cotangent: (_round_mantissa(bits, cotangent),))


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for functions whose matrix products stay float32 at any precision, because physics needs it."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return call
