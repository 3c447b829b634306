"""Measures how well each decoder learns a known distribution of actions.

    python -m experiments.benchmarks.decoder_fit --out experiments/results/decoder_fit.json
    python -m experiments.benchmarks.decoder_fit --mean-flow --out experiments/results/mean_flow_fit.json

The fit is the shipped one (parts/small.gin) with one latent per sample. Every decoder has the same network, data,
updates and latents. Its latents for the measurement are a deterministic grid of quantiles of N(0, 1). Reports the
errors of the mean, of the std (relative) and of the mass of u > 0, and the Wasserstein-1 distance. Writes JSON and
prints a Markdown table.
"""

import argparse
import json
import pathlib
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.known_laws import STANDARD, Mixture, errors, levels
from experiments.benchmarks.provenance import provenance
from gorl import config
from gorl.decoders import IdentityDecoder
from gorl.environments.task import Task
from gorl.environments.toy import RewardFromAction
from gorl.phases import FitDecoder, PhaseContext
from gorl.runtime import seeds, trees
from gorl.state import Dataset, Episodes, RunState

MIXTURES = {
    "N(0.5, 0.3²)": Mixture((1.0,), (0.5,), 0.3),
    "0.3 N(-0.6, 0.1²) + 0.7 N(0.6, 0.1²)": Mixture((0.3, 0.7), (-0.6, 0.6), 0.1),
}
EULER = ["FlowMatchingDecoder.sampler = @Euler()"]


def predicting(prediction: str, clip: str = "1e999") -> list[str]:
    """Returns the bindings of the diffusion decoder's prediction and of its clip of x0 (1e999: off)."""
    return [f"DiffusionDecoder.prediction = @{prediction}Prediction()", f"DiffusionDecoder.x0_clip = {clip}"]


DECODERS = {
    "flow matching, Midpoint": ("gorl_fm.gin", []),
    "flow matching, Euler": ("gorl_fm.gin", EULER),
    "flow matching, Euler, logit-normal times": (
        "gorl_fm.gin",
        [*EULER, "FlowMatchingDecoder.times = @LogitNormalTimes()"],
    ),
    "flow matching, Euler, 1 step": ("gorl_fm.gin", [*EULER, "Euler.steps = 1"]),
    "diffusion, noise": ("gorl_diffusion.gin", predicting("Noise")),
    "diffusion, velocity": ("gorl_diffusion.gin", predicting("Velocity")),
    "diffusion, data": ("gorl_diffusion.gin", predicting("Data")),
    "diffusion, noise, off by one": (
        "gorl_diffusion.gin",
        [*predicting("Noise"), "DiffusionDecoder.levels = @OffByOneLevels()"],
    ),
    "Gaussian": ("gorl_gaussian.gin", []),
    "MeanFlow": ("gorl_mean_flow.gin", []),
}
PAPER = [
    "MeanFlowDecoder.times = @LogitNormalTimes()",
    "MeanFlowDecoder.interval_share = 0.25",
    "MeanFlowDecoder.to_action_share = 0.0",
]
MEAN_FLOW = {
    "the paper's settings": [*PAPER, "MeanFlowDecoder.loss_power = 1.0"],
    "the paper's, least squares": PAPER,
    "uniform times": ["MeanFlowDecoder.times = @UniformTimes()"],
    "predicted tangent": ["MeanFlowDecoder.tangent = @PredictedTangent()"],
    "interval share 0.75": ["MeanFlowDecoder.interval_share = 0.75"],
    "to-action share 0": ["MeanFlowDecoder.to_action_share = 0.0"],
    "loss power 1": ["MeanFlowDecoder.loss_power = 1.0"],
    "4 frequencies": ["FourierTime.frequencies = 4"],
}
EPISODES, LENGTH, LATENTS = 256, 500, 2001
TASK = Task(RewardFromAction(), LENGTH, staggered_starts=True, fresh_resets=True, action_bound=3.0)


def dataset(mixture: Mixture, seed: int) -> Dataset:
    """Returns actions drawn from `mixture`, and observations that are independent of them."""
    rng = np.random.default_rng(seed)
    component = rng.choice(len(mixture.weights), (EPISODES, LENGTH), p=mixture.weights)
    action = np.array(mixture.means)[component] + mixture.std * rng.standard_normal((EPISODES, LENGTH))
    as_float = lambda x: jnp.asarray(x, jnp.float32)[..., None]
    obs = as_float(rng.standard_normal((EPISODES, LENGTH)))
    zeros = jnp.zeros((EPISODES, LENGTH))
    return Dataset(Episodes(obs, as_float(action), zeros, zeros, jnp.ones((EPISODES, LENGTH), bool)))


def declared(file: str, bindings: list[str], epochs: int) -> FitDecoder:
    fixed = [f"FIT_EPOCHS = {epochs}", "FitDecoder.draws = 1", "FitDecoder.latents = @PriorLatents()"]
    built = config.build([file, "parts/small.gin"], [*bindings, *fixed])
    return next(s.declaration for s in built.experiment.planned_phases() if isinstance(s.declaration, FitDecoder))


def fit(phase: FitDecoder, data: Dataset, seed: int, task: Task = TASK) -> Any:
    one = PhaseContext(task, seed=seed, stage=1, phase=1)
    together = PhaseContext(task, seed=np.array([seed], np.int32), stage=1, phase=1)  # units expect an axis of seeds
    state = seeds.add_seed_axis(phase.start(one, RunState(IdentityDecoder(1, 1, key=jax.random.key(0)), dataset=data)))
    for index, unit in enumerate(phase.units(task)):
        state, _ = unit.run(together, trees.unshare_buffers(state), index)
    return phase.finish(one, seeds.take_seed(state)).decoder


def decode_grid(decoder: Any, obs: jax.Array, count: int = LATENTS) -> np.ndarray:
    """Returns the actions at `obs` of `count` latents, the quantiles of N(0, 1)."""
    latents = jnp.asarray(STANDARD.quantiles(levels(count)), jnp.float32)[:, None]
    return np.asarray(jax.jit(jax.vmap(lambda z: decoder(obs, z)))(latents))[:, 0]


def rounded(found: dict[str, float]) -> dict[str, float]:
    return {k: float(f"{v:.3g}") for k, v in found.items()}


def measure(phase: FitDecoder, mixture: Mixture, seed: int) -> dict[str, Any]:
    decoder = fit(phase, dataset(mixture, seed), seed)
    return {
        "network_calls": decoder.network_calls,
        **rounded(errors(mixture, decode_grid(decoder, jnp.zeros(1)))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="only decoders whose names contain this")
    parser.add_argument(
        "--mean-flow", action="store_true", help="vary MeanFlow's settings one at a time, instead of comparing decoders"
    )
    args = parser.parse_args()
    variants = (
        {f"MeanFlow, {k}": ("gorl_mean_flow.gin", v) for k, v in MEAN_FLOW.items()} if args.mean_flow else DECODERS
    )
    print(
        "| decoder | calls | "
        + " | ".join(f"{mixture}: W1, std, mass" for mixture in MIXTURES)
        + " |\n|---|---"
        + "|---" * len(MIXTURES)
        + "|"
    )
    rows = []
    for name, (file, bindings) in ((k, v) for k, v in variants.items() if args.only in k):
        phase, cells = declared(file, bindings, args.epochs), []
        for label, mixture in MIXTURES.items():
            found = [
                {"decoder": name, "bindings": bindings, "law": label, "seed": s, **measure(phase, mixture, s)}
                for s in range(args.seeds)
            ]
            rows += found
            mean = {k: statistics.mean(abs(f[k]) for f in found) for k in ("w1", "std", "mass")}
            cells.append(f"{mean['w1']:.4f}, {100 * mean['std']:.1f} %, {mean['mass']:.3f}")
        print(f"| {name} | {rows[-1]['network_calls']} | {' | '.join(cells)} |", flush=True)
    head = {
        **provenance(),
        "latents": LATENTS,
        "errors": "mean: difference; std: relative; mass: of u > 0; w1: Wasserstein-1",
    }
    body = ",\n  ".join(json.dumps(r, ensure_ascii=False) for r in rows)
    args.out.write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n  {body}\n ]\n}}\n')


if __name__ == "__main__":
    main()
