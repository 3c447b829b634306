"""Measures each method's training iteration against Brax's PPO, raw physics and the matrix products alone.

    python -m experiments.benchmarks.training --env CartpoleBalance --env CheetahRun --out
    experiments/results/training.json

The sizes are those at which published code was measured: 256 environments, unrolls of 30, 8 minibatches of 128, 4
epochs and the published networks, which is 30,720 env steps per iteration. All candidates are compiled first and then
timed in turn in one process. The numbers are medians over the rounds. Brax's PPO has the same sizes and networks, and
its time is the one that its training loop reports, without evaluation and compilation.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.benchmarks.provenance import provenance
from experiments.benchmarks.timing import ForwardProducts, MatrixProducts, in_turn, rounded
from gorl import config
from gorl.acting.lanes import LaneEnvironment
from gorl.environments.base import AbstractEnvironment
from gorl.environments.wrappers import DecodedEnvironment
from gorl.runtime import trees
from gorl.runtime.precision import matrix_products

SIZES = [
    "NUM_ENVS = 256",
    "OnPolicy.unroll_length = 30",
    "OnPolicy.num_minibatches = 8",
    "OnPolicy.batch_size = 128",
    "OnPolicy.num_epochs = 4",
]
METHODS = {
    "PPO": ["ppo.gin"],
    "GoRL-FM": ["gorl_fm.gin"],
    "GoRL-Diffusion": ["gorl_diffusion.gin"],
    "GoRL-MeanFlow": ["gorl_mean_flow.gin"],
    "FPO": ["fpo.gin"],
    "FPO++": ["fpo_plus_plus.gin"],
    "DPPO": ["dppo.gin"],
}


class Iteration:
    """The iteration of a method's last improvement phase, with the method's decoder (if any) in its initial state."""

    def __init__(
        self,
        files: list[str],
        bindings: list[str],
        around: Callable[[AbstractEnvironment], AbstractEnvironment] = lambda env: env,
    ):
        experiment = config.build_here(files, bindings).experiment
        step = [s for s in experiment.planned_phases() if hasattr(s.declaration, "algorithm")][-1]
        task, phase = (
            dataclasses.replace(experiment.task, environment=around(experiment.task.environment)),
            step.declaration,
        )
        spaces = task.environment.spaces()
        decoder = experiment.decoder(spaces.observation, spaces.action, key=jax.random.key(0))
        for earlier in experiment.planned_phases():
            decoder = earlier.declaration.create(spaces, decoder, key=jax.random.key(1))
        self.algorithm, self._episodes = phase.algorithm, task.episodes
        self._env = DecodedEnvironment(task.squashed, decoder)
        learner = phase._learner(spaces, decoder, key=jax.random.key(2))
        self._state = trees.unshare_buffers(
            self.algorithm.start(self._env, learner, self._episodes, key=jax.random.key(3))
        )
        self.decoder, self.learner = decoder, learner
        self._key = jax.random.key(4)
        self._iterate = eqx.filter_jit(
            lambda read, state: read[0].iterate(read[1], state, self._episodes, key=read[2]), donate="all-except-first"
        )
        self._roll = eqx.filter_jit(
            lambda algorithm, env, state, key: algorithm.rollout(env, state, self._episodes, key=key)
        )

    def iteration(self) -> None:
        self._key, key = jax.random.split(self._key)
        self._state, _ = self._iterate((self.algorithm, self._env, key), self._state)
        jax.block_until_ready(self._state)

    def rollout(self) -> None:
        jax.block_until_ready(self._roll(self.algorithm, self._env, self._state, self._key))


class RawPhysics:
    """The environment steps and resets of a rollout, with precomputed random actions instead of a policy."""

    def __init__(self, files: list[str], bindings: list[str]):
        experiment = config.build_here(files, bindings).experiment
        task, algorithm = experiment.task, next(experiment.planned_phases()).declaration.algorithm
        env = LaneEnvironment(task.environment, algorithm.num_envs, task.episodes)
        steps = algorithm.env_steps_per_iteration // algorithm.num_envs
        self._actions = jax.random.uniform(
            jax.random.key(0), (steps, algorithm.num_envs, task.environment.action_size), minval=-1.0
        )
        self._lanes = trees.unshare_buffers(env.start(jax.random.key(1)))
        self._run = eqx.filter_jit(
            lambda actions, lanes: jax.lax.scan(lambda s, a: (env.step(env.refresh(s), a)[0], None), lanes, actions)[0]
        )

    def steps(self) -> None:
        self._lanes = jax.block_until_ready(self._run(self._actions, self._lanes))


def brax_ppo(name: str, bindings: list[str], rounds: int) -> float:
    """Returns the seconds of an iteration of Brax's PPO on Playground's task with MJX."""
    from brax.training.agents.ppo import train
    from mujoco_playground import dm_control_suite, wrapper

    # Brax 0.14 calls a function that JAX 0.10 no longer has.
    jax.device_put_replicated = lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)
    algorithm = next(config.build(["ppo.gin"], bindings).experiment.planned_phases()).declaration.algorithm
    steps, found = algorithm.env_steps_per_iteration, []
    train.train(
        dm_control_suite.load(name, config_overrides={"impl": "jax"}),
        num_timesteps=steps * (rounds + 1), num_evals=rounds + 2, run_evals=False, episode_length=1000,
        wrap_env_fn=wrapper.wrap_for_brax_training, num_envs=algorithm.num_envs,
        unroll_length=algorithm.unroll_length, batch_size=algorithm.batch_size,
        num_minibatches=algorithm.num_minibatches, num_updates_per_batch=algorithm.num_epochs,
        learning_rate=1e-3, entropy_cost=1e-2, discounting=0.995, reward_scaling=10.0,
        normalize_observations=True, clipping_epsilon=0.3,
        progress_fn=lambda _, metrics: found.append(metrics["training/sps"]),
    )  # fmt: skip
    return steps / statistics.median(found[1:])  # the first round compiles


def measured(name: str, methods: list[str], more: list[str], rounds: int, brax: bool) -> dict[str, Any]:
    bindings = [f"ENV = {name!r}", *SIZES, *more]
    iterations = {m: Iteration(METHODS[m], bindings) for m in methods}
    ppo, physics = iterations["PPO"].algorithm, RawPhysics(METHODS["PPO"], bindings)
    learner, rows = iterations["PPO"].learner, ppo.batch_size * ppo.unroll_length
    update = MatrixProducts([learner.policy, learner.critic], rows, ppo.num_minibatches * ppo.num_epochs)
    # The values are computed at every observation of the rollout and at the last ones.
    values = ForwardProducts(learner.critic, ppo.env_steps_per_iteration + ppo.num_envs, 1)
    candidates = {
        "raw physics": physics.steps,
        "products of the update": update.run,
        "products of the values": values.run,
    }
    for method, iteration in iterations.items():
        candidates |= {f"{method}: iteration": iteration.iteration, f"{method}: rollout": iteration.rollout}
    if brax:
        first = brax_ppo(name, bindings, rounds)
    found = in_turn(candidates, rounds)
    steps = ppo.env_steps_per_iteration
    rows = {
        m: {
            "rollout_s": found[f"{m}: rollout"],
            "update_s": found[f"{m}: iteration"] - found[f"{m}: rollout"],
            "env_steps_per_s": steps / found[f"{m}: iteration"],
        }
        for m in methods
    }
    result: dict[str, Any] = {"env_steps": steps, "methods": rows, "raw_physics_s": found["raw physics"]}
    result["rollout_of_raw_physics"] = found["raw physics"] / rows["PPO"]["rollout_s"]
    whole = found["products of the update"] + found["products of the values"]
    result["matrix_products"] = {
        "update_s": found["products of the update"],
        "update_gflop": update.flop / 1e9,
        "values_s": found["products of the values"],
        "values_gflop": values.flop / 1e9,
        "of_ppo_update": whole / rows["PPO"]["update_s"],
    }
    if brax:
        after = brax_ppo(name, bindings, rounds)
        result["brax_ppo"] = {"env_steps_per_s": steps / statistics.mean((first, after)), "iteration_s": [first, after]}
        result["ppo_over_brax"] = rows["PPO"]["env_steps_per_s"] / result["brax_ppo"]["env_steps_per_s"]
    return rounded(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", action="append", dest="envs", default=None)
    parser.add_argument("--method", action="append", dest="methods", default=None, choices=METHODS)
    parser.add_argument("--set", action="append", dest="bindings", default=[], metavar="BINDING")
    parser.add_argument("--precision", default="highest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brax", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = {}
    with matrix_products(args.precision):
        for name in args.envs or ["CartpoleBalance", "CheetahRun"]:
            results[name] = measured(name, args.methods or list(METHODS), args.bindings, args.rounds, args.brax)
            print(json.dumps({name: results[name]}, indent=1), flush=True)
    if args.out:
        args.out.write_text(
            json.dumps({**provenance(), "precision": args.precision, "sizes": SIZES, "results": results}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
