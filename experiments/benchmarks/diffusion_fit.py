"""Measures what the diffusion decoder should predict, and whether its estimates of the action should be clipped.

    python -m experiments.benchmarks.diffusion_fit --out experiments/results/diffusion_fit.json

The fit and the two laws that do not depend on the observation are those of decoder_fit. A third law does: its mean is a
steep function of eight numbers. Its errors are the root mean square, over observations, of the error of the conditional
mean, in deviations of the law, and the mean relative error of the conditional deviation. `x0_clip` acts in sampling
only, so one fit is measured with every clip.
"""

import argparse
import json
import pathlib
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.decoder_fit import (
    EPISODES,
    LENGTH,
    MIXTURES,
    TASK,
    dataset,
    declared,
    decode_grid,
    fit,
    predicting,
    rounded,
)
from experiments.benchmarks.known_laws import STANDARD, errors, levels
from experiments.benchmarks.provenance import provenance
from gorl.environments.task import Task
from gorl.environments.toy import AbstractToy
from gorl.state import Dataset, Episodes

PREDICTIONS, CLIPS = ("Noise", "Velocity", "Data"), ("1e999", "3.0")
SIZE, STD, OBSERVATIONS, LATENTS = 8, 0.3, 512, 65
CONDITIONAL = f"N(1.5 tanh(s₁ + ... + s₈), {STD}²)"


class Wide(AbstractToy):
    """A task with SIZE observations. Only their number is used."""

    def first(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (SIZE,))

    def move(self, obs: jax.Array, clock: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return obs, action[0], clock < 0


WIDE = Task(Wide(), LENGTH, staggered_starts=True, fresh_resets=True, action_bound=3.0)


def conditional_mean(obs: np.ndarray) -> np.ndarray:
    return 1.5 * np.tanh(np.sum(obs, axis=-1))


def conditional_dataset(seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((EPISODES, LENGTH, SIZE))
    action = conditional_mean(obs) + STD * rng.standard_normal((EPISODES, LENGTH))
    zeros, valid = jnp.zeros((EPISODES, LENGTH)), jnp.ones((EPISODES, LENGTH), bool)
    return Dataset(
        Episodes(jnp.asarray(obs, jnp.float32), jnp.asarray(action, jnp.float32)[..., None], zeros, zeros, valid)
    )


def conditional_errors(decoder: Any) -> dict[str, float]:
    obs = np.random.default_rng(10**6).standard_normal((OBSERVATIONS, SIZE))
    latents = jnp.asarray(STANDARD.quantiles(levels(LATENTS)), jnp.float32)[:, None]
    decode = jax.jit(jax.vmap(lambda o: jax.vmap(lambda z: decoder(o, z))(latents)))
    samples = np.asarray(decode(jnp.asarray(obs, jnp.float32)))[..., 0]
    off = (samples.mean(axis=1) - conditional_mean(obs)) / STD
    true = np.std(STANDARD.quantiles(levels(LATENTS)))
    return {"mean": float(np.sqrt(np.mean(off**2))), "std": float(np.mean(samples.std(axis=1)) / (STD * true) - 1.0)}


def with_clip(decoder: Any, clip: str, prediction: str, task: Task) -> Any:
    """Returns the fitted decoder as the configuration with another clip would have built it."""
    phase = declared("gorl_diffusion.gin", predicting(prediction, clip), 1)
    other = phase.create(task.environment.spaces(), decoder, key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(other), jax.tree.leaves(decoder))


def measured(prediction: str, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Returns a row for every law and clip."""
    phase = declared("gorl_diffusion.gin", predicting(prediction), epochs)
    laws = {
        label: (fit(phase, dataset(law, seed), seed), TASK, lambda d, m=law: errors(m, decode_grid(d, jnp.zeros(1))))
        for label, law in MIXTURES.items()
    }
    laws[CONDITIONAL] = (fit(phase, conditional_dataset(seed), seed, WIDE), WIDE, conditional_errors)
    return [
        {"prediction": prediction.lower(), "x0_clip": clip, "law": label, "seed": seed}
        | rounded(evaluate(with_clip(decoder, clip, prediction, task)))
        for label, (decoder, task, evaluate) in laws.items()
        for clip in CLIPS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    rows = []
    print("| prediction | x0_clip | law | mean | std | W1 |\n|---|---|---|---|---|---|")
    for prediction in PREDICTIONS:
        found = [row for seed in range(args.seeds) for row in measured(prediction, args.epochs, seed)]
        rows += found
        for label in (*MIXTURES, CONDITIONAL):
            for clip in CLIPS:
                cell = [r for r in found if (r["law"], r["x0_clip"]) == (label, clip)]
                mean = {k: statistics.mean(abs(r.get(k, float("nan"))) for r in cell) for k in ("mean", "std", "w1")}
                shown = " | ".join(f"{value:.3f}" for value in mean.values())
                print(f"| {prediction.lower()} | {clip} | {label} | {shown} |", flush=True)
    head = {**provenance(), "epochs": args.epochs, "errors": __doc__.split("\n\n")[-1].replace("\n", " ").strip()}
    body = ",\n  ".join(json.dumps(r, ensure_ascii=False) for r in rows)
    args.out.write_text(json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "rows": [\n  {body}\n ]\n}}\n')


if __name__ == "__main__":
    main()
