"""Measures the error of samplers at few network calls when the network is exact.

    python -m experiments.benchmarks.sampler_bias --out experiments/results/sampler_bias.json

The exact velocity (flow matching) or noise (diffusion) of each known distribution is integrated from a deterministic
grid of quantiles of N(0, 1). Reports the errors of the mean, of the std (relative) and of the mass of u > 0, and the
Wasserstein-1 distance to the distribution. Writes JSON and prints a Markdown table for 10 calls.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.known_laws import STANDARD, Mixture, errors, levels
from experiments.benchmarks.provenance import provenance
from gorl.decoders import DiffusionDecoder
from gorl.generative.grids import CosineGrid, PowerGrid, UniformGrid
from gorl.generative.predictions import NoisePrediction
from gorl.generative.samplers import Euler, Heun, Midpoint
from gorl.generative.schedules import CosineSchedule, LinearSchedule, NoisyLevels, OffByOneLevels
from gorl.networks import FourierTime, RunningNormalizer

MIXTURES = {
    "N(0, 0.69²)": Mixture((1.0,), (0.0,), 0.69),
    "N(0, 1)": STANDARD,
    "N(0, 0.1²)": Mixture((1.0,), (0.0,), 0.1),
    "0.3 N(-0.6, 0.1²) + 0.7 N(0.6, 0.1²)": Mixture((0.3, 0.7), (-0.6, 0.6), 0.1),
}
GRIDS = {
    "uniform": UniformGrid(),
    "power 1.5": PowerGrid(exponent=1.5),
    "power 2": PowerGrid(exponent=2.0),
    "power 3": PowerGrid(exponent=3.0),
    "cosine": CosineGrid(),
}
SCHEDULES = {
    "cosine": lambda steps: CosineSchedule(steps=steps, offset=0.008, floor=1e-3),
    "linear": lambda steps: LinearSchedule(steps=steps, first_beta=1e-4, last_beta=0.02, levels=1000),
}
CALLS = (4, 10, 20, 50)
LATENTS = 4001


class ExactNoise(eqx.Module):
    """A network body that returns E[eps | x_t] for the decoder's input [obs, x, cos(2^k t), sin(2^k t)]."""

    mixture: Mixture
    schedule: Any = eqx.field(static=True)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        t = jnp.arctan2(inputs[3], inputs[2])
        alphabar = self.schedule.alphabar()
        level = jnp.rint(t * self.schedule.steps).astype(jnp.int32)
        alpha, sigma = (jnp.asarray(np.sqrt(x), jnp.float32)[level] for x in (alphabar, 1.0 - alphabar))
        return self.mixture.posterior(inputs[1:2], alpha, sigma)[1]


def ddim(mixture: Mixture, schedule: Any, indexing: Any) -> DiffusionDecoder:
    return DiffusionDecoder(
        1,
        1,
        body=lambda i, o, *, key: ExactNoise(mixture, schedule),
        normalizer=lambda size: RunningNormalizer(size, epsilon=1e-6, clip=10.0),
        time_embedding=FourierTime(1),
        schedule=schedule,
        levels=indexing,
        prediction=NoisePrediction(),
        x0_clip=float("inf"),
        key=jax.random.key(0),
    )


def methods(mixture: Mixture, calls: int) -> Iterator[tuple[str, int, Callable]]:
    """Yields each sampler's name, its number of network calls, and its function from a latent [1] to an action [1]."""
    for kind, per_step in ((Euler, 1), (Midpoint, 2), (Heun, 2)):
        for name, grid in GRIDS.items():
            sampler = kind(steps=calls // per_step, grid=grid)
            yield f"{kind.__name__}, {name}", sampler.network_calls, lambda z, s=sampler: s(mixture.velocity, z)
    for name, schedule in SCHEDULES.items():
        for label, indexing in (("", NoisyLevels()), (", off by one", OffByOneLevels())):
            decoder = ddim(mixture, schedule(calls), indexing)
            yield f"DDIM, {name}{label}", decoder.network_calls, lambda z, d=decoder: d(jnp.zeros(1), z)


def measure() -> list[dict[str, Any]]:
    latents = jnp.asarray(STANDARD.quantiles(levels(LATENTS)), jnp.float32)[:, None]
    rows = []
    for label, mixture in MIXTURES.items():
        for budget in CALLS:
            for name, calls, decode in methods(mixture, budget):
                samples = np.asarray(jax.jit(jax.vmap(decode))(latents))[:, 0]
                found = {k: float(f"{v:.3g}") for k, v in errors(mixture, samples).items()}
                rows.append({"law": label, "method": name, "budget": budget, "network_calls": calls, **found})
    return rows


def table(rows: list[dict[str, Any]], budget: int) -> str:
    lines = [f"| {budget} network calls: W1, std | " + " | ".join(MIXTURES) + " |", "|---" * (1 + len(MIXTURES)) + "|"]
    for method in dict.fromkeys(r["method"] for r in rows):
        cells = [
            r for label in MIXTURES for r in rows if (r["law"], r["method"], r["budget"]) == (label, method, budget)
        ]
        lines.append(f"| {method} | " + " | ".join(f"{c['w1']:.4f}, {100 * c['std']:+.1f} %" for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    rows = measure()
    head = {
        **provenance(),
        "latents": LATENTS,
        "errors": "mean: difference; std: relative; mass: of u > 0; w1: Wasserstein-1",
    }
    body = ",\n  ".join(json.dumps(r, ensure_ascii=False) for r in rows)
    out.write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n  {body}\n ]\n}}\n')
    print(table(rows, 10))


if __name__ == "__main__":
    main()
