"""Trained policies of runs on disk."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gorl import config
from gorl.acting.agent import RULES, Agent
from gorl.acting.evaluator import Evaluator
from gorl.config import Configuration, files
from gorl.errors import RunError
from gorl.experiment import Experiment
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.folder import RunFolder
from gorl.runtime import seeds
from gorl.runtime.precision import matrix_products
from gorl.state import RunState
from gorl.training.restoring import restore_newest

Path = str | os.PathLike[str]


class TrainedPolicy:
    """A policy with its decoder. `act` takes one observation [D_o] or any batch [..., D_o]."""

    def __init__(self, agent_of: Callable[[str], Agent], obs_size: int):
        self._obs_size = obs_size
        self._agents = {rule: agent_of(rule) for rule in RULES}
        self._act = eqx.filter_jit(lambda agent, obs, keys: jax.vmap(lambda o, k: agent.act(o, key=k))(obs, keys))

    def act(
        self, obs: Float[Array | np.ndarray, "*batch D_o"] | Sequence, *, key: PRNGKeyArray, rule: str = "mode"
    ) -> Float[np.ndarray, "*batch D_a"]:
        """Returns actions in (-1, 1), [..., D_a].

        They are of the policy's mode, or follow another rule: 'zero_noise' or 'stochastic'. Raises ValueError for
        observations of another size.
        """
        obs = np.asarray(obs, np.float32)
        if obs.shape[-1:] != (self._obs_size,):
            raise ValueError(f"the policy observes {self._obs_size} numbers, got an observation of shape {obs.shape}.")
        flat = obs.reshape(-1, self._obs_size)
        actions = self._act(self._agents[rule], flat, jax.random.split(key, flat.shape[0]))
        return np.asarray(actions).reshape(*obs.shape[:-1], -1)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The returns of one seed's policy on fresh episodes.

    `policy`: 'best' or 'last'; `metrics`: see `Evaluator`; `physics`: the implementation of the environment's physics
    (None: the environment names none).
    """

    seed: int
    policy: str
    metrics: dict[str, float]
    physics: str | None = None


def confirmed_plugins(folder: RunFolder, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the plugins to build a run's configuration with: the `named` ones, if the run's own are among them.

    Raises ConfigError where one is missing: a plugin is code, and a folder may come from anybody.
    """
    return files.confirmed(folder.facts().get("plugins", []), named, str(folder.path))


def reopened(folder: RunFolder, plugins: Sequence[str] = ()) -> Configuration:
    """Builds the configuration of a run from the config.gin in its folder. Raises ConfigError."""
    return config.build([str(folder.config_path)], plugins=confirmed_plugins(folder, plugins))


def restore(path: Path, plugins: Sequence[str] = ()) -> tuple[Experiment, RunState]:
    """Restores a seed's experiment and state from the newest sound checkpoint in its folder.

    A phase under way is finished as it stands. `plugins`: those that the run was made with, named again, since they are
    code.
    """
    folder = RunFolder.open(pathlib.Path(path))
    if (members := folder.facts().get("members")) is not None:
        raise RunError(
            f"{folder.path} holds {len(members)} seeds: name one of them, such as {folder.path / members[0]}."
        )
    experiment = reopened(folder, plugins).experiment
    store = CheckpointStore(folder.path)
    try:
        found = restore_newest(experiment, store)
    finally:
        store.close()
    if found is None:
        raise RunError(f"{folder.path} has no checkpoint yet.")
    position, state, _ = found
    if position.started:
        planned = list(experiment.planned_phases())[position.index]
        finish = lambda one: planned.declaration.finish(experiment.context(planned), one)
        state = seeds.take_seed(seeds.vmap_seeds(finish, seeds.add_seed_axis(state)))
    return experiment, state


def load(path: Path, *, which: str = "selected", plugins: Sequence[str] = ()) -> TrainedPolicy:
    """Loads the trained policy of a run's folder (of one seed).

    `which`: 'selected' (what the last phase handed on), 'best' (by evaluation in the last stage) or 'last' (after the
    last update). `plugins`: modules or .py files. A run that was made with some is loaded with those only if they are
    named again, since a folder may come from anybody and they are code. Reading the run's configuration replaces gin's
    global one.
    """
    experiment, state = restore(path, plugins)
    policies = {"selected": state.policy, "best": state.best, "last": state.learner and state.learner.policy}
    if which not in policies:
        raise ValueError(f"which = {which!r}: it is 'selected', 'best' or 'last'.")
    policy = policies[which]
    if policy is None:
        raise RunError(f"{os.fspath(path)} has no policy yet: its first phase has not finished.")
    bound = experiment.task.action_bound
    obs_size = experiment.task.environment.spaces().observation
    return TrainedPolicy(lambda rule: Agent(policy, state.decoder, bound, rule), obs_size)


def evaluate(
    path: Path,
    *,
    episodes: int,
    seed: int,
    rule: str,
    plugins: Sequence[str] = (),
    physics: str | None = None,
) -> list[Evaluation]:
    """Evaluates the best and the last policy of every seed of a run.

    `episodes`: how many fresh episodes, the same for every policy, from resets drawn with `seed`. `rule`: how a policy
    acts: 'mode', 'zero_noise' or 'stochastic'. `physics`: the implementation to evaluate under, such as 'jax' (MJX) or
    'native'; None takes the one that the run was trained with. Raises RunError where a seed has no policy yet, and
    ConfigError where the environment has no such physics.
    """
    evaluator = Evaluator(num_envs=episodes, rule=rule)
    folder = RunFolder.open(pathlib.Path(path))
    return [found for member in folder.members for found in evaluate_seed(member, evaluator, seed, plugins, physics)]


def evaluate_seed(
    member: RunFolder, evaluator: Evaluator, seed: int, plugins: Sequence[str] = (), physics: str | None = None
) -> Iterator[Evaluation]:
    """Yields the evaluations of one seed's best and last policy. Raises RunError where it has none."""
    experiment, state = restore(member.path, plugins)
    if state.policy is None:
        raise RunError(f"{member.path} has no policy yet: its first phase has not finished.")
    task = experiment.task if physics is None else experiment.task.with_physics(physics)
    key, own, used = jax.random.key(seed)[None], member.facts("seed")["seed"], task.environment.describe().get("impl")
    with matrix_products(experiment.precision):
        for name, policy in (("best", state.best), ("last", state.learner.policy)):
            modules = seeds.add_seed_axis((policy, state.decoder))
            metrics = evaluator.returns(task, *modules, key=key)
            yield Evaluation(own, name, {k: float(v[0]) for k, v in metrics.items()}, used)
