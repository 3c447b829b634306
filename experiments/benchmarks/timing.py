"""Timing of candidates in turn, and a training step's matrix products alone.

The products are a lower bound: the time of the step if everything else were free.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gorl.networks.mlp import Linear


def seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turn(candidates: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each candidate, without its first two calls, which compile."""
    for function in candidates.values():
        function()
        function()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}


def rounded(tree: Any) -> Any:
    return jax.tree.map(lambda x: float(f"{x:.4g}") if isinstance(x, float) else x, tree)


def weights(module: Any) -> list[Any]:
    """Returns the weight [out, in] of every linear layer, in order."""
    linear = lambda x: isinstance(x, Linear)  # noqa: E731
    return [x.weight for x in jax.tree.leaves(module, is_leaf=linear) if linear(x)]


class MatrixProducts:
    """The matrix products of the forward and backward passes of `updates` steps, on `rows` rows through each network.

    The only other operations are those that keep the compiler from eliminating a product. `flop` is the total.
    """

    def __init__(self, networks: Sequence[Any], rows: int, updates: int):
        self._networks = [jax.tree.map(jnp.array, weights(n)) for n in networks]
        self._inputs = [
            jax.random.normal(jax.random.key(i), (rows, n[0].shape[1])) for i, n in enumerate(self._networks)
        ]
        products = sum(6 * w.size for n in self._networks for w in n)
        products -= sum(2 * n[0].size for n in self._networks)  # the inputs have no gradient
        self.flop = updates * rows * products

        def loss(networks: Any, inputs: Any) -> Any:
            return sum(jnp.sum(forward(n, x) ** 2) for n, x in zip(networks, inputs))

        def step(networks: Any, inputs: Any) -> Any:
            return jax.tree.map(lambda w, g: w - 1e-9 * g, networks, jax.grad(loss)(networks, inputs))

        self._run = jax.jit(
            lambda networks, inputs: jax.lax.scan(lambda n, _: (step(n, inputs), None), networks, length=updates)[0]
        )

    def run(self) -> None:
        jax.block_until_ready(self._run(self._networks, self._inputs))


class ForwardProducts:
    """The matrix products of one network's forward pass alone, on `times` batches of `rows`. `flop` is the total."""

    def __init__(self, network: Any, rows: int, times: int):
        self._weights = jax.tree.map(jnp.array, weights(network))
        self._inputs = jax.random.normal(jax.random.key(0), (times, rows, self._weights[0].shape[1]))
        self.flop = times * rows * sum(2 * w.size for w in self._weights)
        self._run = jax.jit(lambda ws, xs: jax.lax.map(lambda x: jnp.sum(forward(ws, x), axis=-1), xs))

    def run(self) -> None:
        jax.block_until_ready(self._run(self._weights, self._inputs))


def forward(layers: Sequence[Any], x: Any) -> Any:
    return functools.reduce(lambda x, w: x @ w.T, layers, x)
