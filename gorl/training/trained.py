"""Trained policies of runs on disk."""

import pathlib
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from gorl import config
from gorl.acting.agent import RULES, Agent
from gorl.config import Configuration, files
from gorl.errors import RunError
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.folder import RunFolder
from gorl.runtime import seeds
from gorl.training.restoring import restore_newest


class TrainedPolicy:
    """A policy with its decoder. `act` takes one observation [D_o] or any batch [..., D_o]."""

    def __init__(self, agent_of: Any, obs_size: int):
        self._obs_size = obs_size
        self._agents = {rule: agent_of(rule) for rule in RULES}
        self._act = eqx.filter_jit(lambda agent, obs, keys: jax.vmap(lambda o, k: agent.act(o, key=k))(obs, keys))

    def act(self, obs: Any, *, key: Any, rule: str = "mode") -> np.ndarray:
        """Actions in (-1, 1), [..., D_a]: of the policy's mode, or by another rule: 'zero_noise', 'stochastic'."""
        obs = np.asarray(obs, np.float32)
        if obs.shape[-1:] != (self._obs_size,):
            raise ValueError(f"the policy observes {self._obs_size} numbers, got an observation of shape {obs.shape}.")
        flat = obs.reshape(-1, self._obs_size)
        actions = self._act(self._agents[rule], flat, jax.random.split(key, flat.shape[0]))
        return np.asarray(actions).reshape(*obs.shape[:-1], -1)


def confirmed_plugins(folder: RunFolder, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the plugins to build a run's configuration with: the `named` ones, if those that the run was made with are among them.

    Raises ConfigError where one is missing: a plugin is code, and a folder may come from anybody.
    """
    return files.confirmed(folder.facts().get("plugins", []), named, str(folder.path))


def reopened(folder: RunFolder, plugins: Sequence[str] = ()) -> Configuration:
    """Builds the configuration of a run from the config.gin in its folder. Raises ConfigError."""
    return config.build([str(folder.config_path)], plugins=confirmed_plugins(folder, plugins))


def restore(path: Any, plugins: Sequence[str] = ()) -> tuple[Any, Any]:
    """(experiment, RunState) of a seed's folder, from its newest sound checkpoint; a phase under way is finished as it stands.

    `plugins`: those that it was made with, named again, since they are code.
    """
    folder = RunFolder.open(pathlib.Path(path))
    if (members := folder.facts().get("members")) is not None:
        raise RunError(f"{path} holds {len(members)} seeds: name one of them, such as {pathlib.Path(path) / members[0]}.")
    experiment = reopened(folder, plugins).experiment
    store = CheckpointStore(folder.path)
    try:
        found = restore_newest(experiment, store)
    finally:
        store.close()
    if found is None:
        raise RunError(f"{path} has no checkpoint yet.")
    position, state, _ = found
    planned_phases = list(experiment.planned_phases())
    if position.started:
        planned = planned_phases[position.index]
        finish = planned.declaration.finish
        state = seeds.take_seed(seeds.vmap_seeds(lambda one: finish(experiment.context(planned), one), seeds.add_seed_axis(state)))
    return experiment, state


def load(path: Any, *, which: str = "selected", plugins: Sequence[str] = ()) -> TrainedPolicy:
    """The trained policy of a run folder (of one seed).

    `which`: 'selected' (what the last phase handed on), 'best' (by evaluation in the last stage) or 'last' (after the
    last update). `plugins`: modules or .py files; a run that was made with some is loaded with those only if they are named
    again, since a folder may come from anybody and they are code. Reads the run's configuration, which replaces gin's global one.
    """
    experiment, state = restore(path, plugins)
    policies = {"selected": state.policy, "best": state.best, "last": state.learner and state.learner.policy}
    if which not in policies:
        raise ValueError(f"which = {which!r}: it is 'selected', 'best' or 'last'.")
    policy = policies[which]
    if policy is None:
        raise RunError(f"{path} has no policy yet: its first phase has not finished.")
    bound = experiment.task.action_bound
    return TrainedPolicy(lambda rule: Agent(policy, state.decoder, bound, rule), experiment.task.environment.spaces().observation)
