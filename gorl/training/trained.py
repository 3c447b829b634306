"""Trained policies of runs on disk."""

import contextlib
import dataclasses
import logging
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
from gorl.policies.base import AbstractPolicy
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.files import require_plain
from gorl.runs.folder import RunFolder
from gorl.runs.summary import best_stage, read_results
from gorl.runtime import seeds
from gorl.runtime.precision import matrix_products
from gorl.state import RunState
from gorl.training.restoring import newest_phase, restore_newest, restore_stage_end

_log = logging.getLogger(__name__)

Path = str | os.PathLike[str]


class TrainedPolicy:
    """A policy with its decoder. `act` takes one observation [D_o] or any batch [..., D_o]. `stage` is its stage."""

    def __init__(self, agent_of: Callable[[str], Agent], obs_size: int, stage: int):
        self._obs_size = obs_size
        self.stage = stage
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
    (None: the environment names none); `stage`: the stage that the policy and its decoder are of.
    """

    seed: int
    policy: str
    metrics: dict[str, float]
    physics: str | None
    stage: int


def confirmed_plugins(folder: RunFolder, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the plugins to build a run's configuration with: the `named` ones, if the run's own are among them.

    Raises ConfigError where one is missing: a plugin is code, and a folder may come from anybody.
    """
    return files.confirmed(folder.facts().get("plugins", []), named, str(folder.path))


def changed_plugins(folder: RunFolder, configuration: Configuration) -> list[str]:
    """Returns a phrase for every plugin of a run that is not what it was: 'plugin task.py (data.json)'."""
    then = folder.facts().get("plugin_files", {})
    now = configuration.plugin_files_like(then)
    changed = {p: [f for f in files if now[p].get(f) != files[f]] for p, files in then.items() if p in now}
    return [f"plugin {plugin} ({', '.join(files)})" for plugin, files in changed.items() if files]


def reopened(folder: RunFolder, plugins: Sequence[str] = ()) -> Configuration:
    """Builds the configuration of a run from the config.gin in its folder. Raises ConfigError.

    Raises RunError if that is a link, a device or a pipe.
    """
    require_plain(folder.config_path)
    return config.build([str(folder.config_path)], plugins=confirmed_plugins(folder, plugins))


@dataclasses.dataclass(frozen=True)
class Found:
    """The state in a checkpoint of a seed's run, and its stage. A phase under way is finished as it stands."""

    stage: int
    state: RunState

    def policy(self, which: str) -> AbstractPolicy | None:
        """Returns the 'selected', 'best' or 'last' policy (see `load`), or None before there is one."""
        learner = self.state.learner
        policies = {"selected": self.state.policy, "best": self.state.best, "last": learner and learner.policy}
        if which not in policies:
            raise ValueError(f"which = {which!r}: it is 'selected', 'best' or 'last'.")
        return policies[which]


class SavedRun:
    """A seed's run on disk: its experiment, and what its checkpoints have.

    `plugins`: those that the run was made with, named again, since they are code. `physics`: the implementation of
    physics that the experiment has, if not its own.
    """

    def __init__(self, path: Path, plugins: Sequence[str] = (), physics: str | None = None):
        self.folder = RunFolder.open(pathlib.Path(path))
        if (members := self.folder.facts().get("members")) is not None:
            raise RunError(
                f"{self.folder.path} holds {len(members)} seeds: name one of them, such as"
                f" {self.folder.path / members[0]}."
            )
        configuration = reopened(self.folder, plugins)
        for plugin in changed_plugins(self.folder, configuration):
            _log.warning("%s was made with another %s; the numbers are of the present one.", self.folder.path, plugin)
        self.experiment = self._trained = configuration.experiment
        if physics is not None:
            task = self._trained.task.with_physics(physics)
            self.experiment = dataclasses.replace(self._trained, task=task)

    def newest(self) -> Found:
        """Returns what the newest sound checkpoint has. Raises RunError without any."""
        with self._store() as store:
            found = restore_newest(self._trained, store, between=self.experiment)
        if found is None:
            raise RunError(f"{self.folder.path} has no checkpoint yet.")
        position, state = found
        newest = newest_phase(self._trained, position)
        if position.started:
            finish = lambda one: newest.declaration.finish(self._trained.context(newest), one)
            state = seeds.take_seed(seeds.vmap_seeds(finish, seeds.add_seed_axis(state)))
        return Found(newest.stage, state)

    def end_of(self, stage: int) -> Found:
        """Returns what a stage left. Raises RunError if its checkpoint is not kept or cannot be read."""
        with self._store() as store:
            state = restore_stage_end(self.experiment, store, stage)
        if state is None:
            raise RunError(f"{self.folder.path} has no sound checkpoint of the end of stage {stage}.")
        return Found(stage, state)

    def best(self) -> Found:
        """Returns what the stage of the best policy left (`gorl.runs.summary.best_stage`).

        It is what the newest checkpoint has before any stage was evaluated at its end and, with a warning, if the
        checkpoint of the best stage is not kept.
        """
        stage = best_stage(read_results(self.folder.record_path)[1])
        if stage is None:
            return self.newest()
        try:
            return self.end_of(stage)
        except RunError as err:
            newest = self.newest()
            _log.warning("the best policy is of stage %s, but %s Stage %s's is taken.", stage, err, newest.stage)
            return newest

    @contextlib.contextmanager
    def _store(self) -> Iterator[CheckpointStore]:
        store = CheckpointStore(self.folder.path)
        try:
            yield store
        finally:
            store.close()


def restore(path: Path, plugins: Sequence[str] = ()) -> tuple[Experiment, RunState]:
    """Restores a seed's experiment and state from the newest sound checkpoint in its folder; see `SavedRun`."""
    saved = SavedRun(path, plugins)
    return saved.experiment, saved.newest().state


def load(path: Path, *, which: str = "best", stage: int | None = None, plugins: Sequence[str] = ()) -> TrainedPolicy:
    """Loads a trained policy of a run's folder (of one seed), with the decoder of its stage.

    `which`: 'best' (by evaluation in training), 'last' (after the last update) or 'selected' (what the last phase
    handed on). `stage`: the stage at whose end; None takes the best policy of all stages, and for 'last' and 'selected'
    the newest checkpoint. `plugins`: modules or .py files. A run that was made with some is loaded with those only if
    they are named again, since a folder may come from anybody and they are code. Reading the run's configuration
    replaces gin's global one.
    """
    saved = SavedRun(path, plugins)
    found = _find(saved, which, stage)
    policy = found.policy(which)
    if policy is None:
        raise RunError(f"{os.fspath(path)} has no policy yet: its first phase has not finished.")
    task = saved.experiment.task
    obs_size = task.environment.spaces().observation
    return TrainedPolicy(
        lambda rule: Agent(policy, found.state.decoder, task.action_bound, rule), obs_size, found.stage
    )


def _find(saved: SavedRun, which: str, stage: int | None) -> Found:
    if stage is not None:
        return saved.end_of(stage)
    return saved.best() if which == "best" else saved.newest()


def evaluate(
    path: Path,
    *,
    episodes: int,
    seed: int,
    rule: str,
    plugins: Sequence[str] = (),
    physics: str | None = None,
    stage: int | None = None,
) -> list[Evaluation]:
    """Evaluates the best policy of all stages, with its decoder, and the newest policy of every seed of a run.

    `episodes`: how many fresh episodes, the same for every policy, from resets drawn with `seed`. `rule`: how a policy
    acts: 'mode', 'zero_noise' or 'stochastic'. `physics`: the implementation to evaluate under, such as 'jax' (MJX) or
    'native'; None takes the one that the run was trained with. `stage`: evaluates the best and the last policy of this
    stage instead. Raises RunError where a seed has no policy yet, or no checkpoint of the stage, and ConfigError where
    the environment has no such physics.
    """
    evaluator = Evaluator(num_envs=episodes, rule=rule)
    folder = RunFolder.open(pathlib.Path(path))
    settings = {"plugins": plugins, "physics": physics, "stage": stage}
    return [found for member in folder.members for found in evaluate_seed(member, evaluator, seed, **settings)]


def evaluate_seed(
    member: RunFolder,
    evaluator: Evaluator,
    seed: int,
    *,
    plugins: Sequence[str] = (),
    physics: str | None = None,
    stage: int | None = None,
) -> Iterator[Evaluation]:
    """Yields the evaluations of one seed's best and last policy, see `evaluate`. Raises RunError where it has none."""
    saved = SavedRun(member.path, plugins, physics)
    task = saved.experiment.task
    key, own, used = jax.random.key(seed)[None], member.facts("seed")["seed"], task.describe().get("impl")
    for which in ("best", "last"):
        found = _find(saved, which, stage)
        policy = found.policy(which)
        if policy is None:
            raise RunError(f"{member.path} has no policy yet: its first phase has not finished.")
        with matrix_products(saved.experiment.precision):
            modules = seeds.add_seed_axis((policy, found.state.decoder))
            metrics = evaluator.returns(task, *modules, key=key)
        yield Evaluation(own, which, {k: float(v[0]) for k, v in metrics.items()}, used, found.stage)
