"""Measures how fast a decoder is fitted, in samples per second of an epoch.

    python -m experiments.benchmarks.fit_speed --out experiments/results/fit_speed.json

An epoch is compared with its matrix products alone, and with the same steps run op by op. The sizes are the published
ones: batches of 8192, 8 draws of latent and time per sample, a network of 4 hidden layers of 64, and CheetahRun's
observations and actions. An epoch is one compiled program with the data on the device. All candidates take turns in
one process, and the numbers are medians over rounds. `share_of_products` is the time of the matrix products divided by
that of the epoch. Op by op means that the epoch's loss, gradient and optimizer step are called without compiling them,
as published code does.
"""

import argparse
import json
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.provenance import provenance
from experiments.benchmarks.timing import MatrixProducts, in_turn, rounded
from gorl import config
from gorl.networks import trainable
from gorl.phases import DataSource, FitDecoder, PhaseContext, Row
from gorl.runtime import seeds, trees
from gorl.runtime.precision import matrix_products
from gorl.state import Dataset, Episodes, RunState

DECODERS = {
    "flow matching": "gorl_fm.gin",
    "diffusion": "gorl_diffusion.gin",
    "MeanFlow": "gorl_mean_flow.gin",
    "Gaussian": "gorl_gaussian.gin",
}
PLAIN = ["FitDecoder.validation_fraction = 0.0", "FitDecoder.latents = @PriorLatents()"]
LENGTH = 1000


class Fit:
    """A fit before its first epoch, on `batches` batches of random data, without validation."""

    def __init__(self, file: str, bindings: list[str], batches: int):
        experiment = config.build([file], [*PLAIN, *bindings]).experiment
        step = next(s for s in experiment.planned_phases() if isinstance(s.declaration, FitDecoder))
        self.phase: FitDecoder = step.declaration
        self.samples = batches * self.phase.batch_size
        spaces = experiment.task.environment.spaces()
        episodes = -(-self.samples // LENGTH)
        normal = lambda i, *shape: jax.random.normal(jax.random.key(i), (episodes, LENGTH, *shape))  # noqa: E731
        self._data = Dataset(
            Episodes(
                normal(0, spaces.observation),
                normal(1, spaces.action),
                normal(2),
                normal(3),
                jnp.ones((episodes, LENGTH), bool),
            )
        )
        initial = experiment.decoder(spaces.observation, spaces.action, key=jax.random.key(0))
        run = RunState(initial, dataset=self._data)
        self._state = trees.unshare_buffers(
            seeds.add_seed_axis(self.phase.start(PhaseContext(experiment.task, 0, 1, 0), run))
        )
        self._context = PhaseContext(experiment.task, jnp.zeros(1, jnp.int32), 1, 0)
        self.decoder = seeds.take_seed(self._state).decoder
        self._done = 0

    def epoch(self) -> None:
        self._state, _ = self.phase.epoch(self._context, self._state, self._done)
        self._done += 1
        jax.block_until_ready(self._state)

    def op_by_op(self) -> None:
        """Runs the update of one batch, in which only single operations are compiled."""
        phase, decoder = self.phase, self.decoder
        flat = lambda x: x.reshape(-1, x.shape[-1])[: phase.batch_size]  # noqa: E731
        rows = Row(flat(self._data.episodes.obs), flat(self._data.episodes.action))
        source = DataSource(None, None, None, self._context.task.action_bound)
        keys = jax.random.split(jax.random.key(1), phase.batch_size)
        params, rest = eqx.partition(decoder, trainable(decoder))
        loss = lambda p: jnp.mean(
            jax.vmap(lambda row, k: phase.loss(eqx.combine(p, rest), source, row, key=k))(rows, keys)
        )  # noqa: E731
        optimizer = phase._optimizer()
        grads = jax.grad(loss)(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        jax.block_until_ready(optax.apply_updates(params, updates))


def measured(file: str, bindings: list[str], batches: int, rounds: int) -> dict[str, Any]:
    fit = Fit(file, bindings, batches)
    size = fit.phase.batch_size
    products = MatrixProducts([fit.decoder], size * fit.phase.draws, batches)
    found = in_turn({"epoch": fit.epoch, "products": products.run, "op by op": fit.op_by_op}, rounds)
    speed, slow = fit.samples / found["epoch"], size / found["op by op"]
    return {
        "samples_per_s": speed,
        "op_by_op_samples_per_s": slow,
        "times_op_by_op": speed / slow,
        "products_gflop": products.flop / 1e9,
        "products_gflop_per_s": products.flop / 1e9 / found["products"],
        "share_of_products": found["products"] / found["epoch"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", action="append", dest="decoders", default=None, choices=DECODERS)
    parser.add_argument("--set", action="append", dest="bindings", default=[], metavar="BINDING")
    parser.add_argument("--precision", default="highest")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = {}
    with matrix_products(args.precision):
        for name in args.decoders or DECODERS:
            results[name] = rounded(measured(DECODERS[name], args.bindings, args.batches, args.rounds))
            print(json.dumps({name: results[name]}), flush=True)
    if args.out:
        args.out.write_text(
            json.dumps({**provenance(), "precision": args.precision, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
