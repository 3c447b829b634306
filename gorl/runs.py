"""Run folders: what a run leaves on disk, and how to use it afterwards.

    config.gin              what was asked, flattened; re-runnable
    operative_config.gin    what ran, with every default; re-runnable
    sources/                the gin files as read
    run.json                format, versions, git, device, command, plugins, seed
    metrics.jsonl           the record
    status.json             running, finished, interrupted or failed; the summary
    checkpoints/ artifacts/ the state

A run of several seeds has a folder of this kind for each, seedN/, whose configuration is that of the seed alone. In the
folder around them are the configuration as it was asked and what all of them share.
"""

import datetime
import fcntl
import json
import logging
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

import gorl
from gorl import devices, hosts
from gorl.checkpoint import CheckpointStore
from gorl.disk import reason, write_json
from gorl.errors import RunError
from gorl.paths import inside

FORMAT = 3
_FILES = ("config.gin", "operative_config.gin", "metrics.jsonl", "status.json")
_FOLDERS = ("checkpoints", "artifacts")
_FACTS = {"name": str, "study": str, "seed": int, "plugins": list, "members": list, "environment": dict, "versions": dict, "device": dict}
_log = logging.getLogger(__name__)
PACKAGES = ("jax", "jaxlib", "equinox", "optax", "mujoco", "mujoco-mjx", "playground", "brax", "orbax-checkpoint", "gin-config", "warp-lang", "numpy")


class RunFolder:
    """One run on disk."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.record_path = path / "metrics.jsonl"
        self.config_path = path / "config.gin"
        self._lock: Any = None

    @classmethod
    def create(cls, path: pathlib.Path) -> "RunFolder":
        if path.exists() and any(path.iterdir()):
            what = f"Resume it with `gorl train --resume {path}`, or name" if (path / "run.json").is_file() else "It holds no run: name"
            raise RunError(f"{path} exists and is not empty. {what} another folder with --run-dir.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise RunError(f"cannot make the run folder {path}: {err.strerror}. Name another with --run-dir.") from err
        return cls(path)

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunFolder":
        folder = cls(path)
        if not (path / "run.json").is_file():
            raise RunError(f"{path} is not a gorl run folder (it has no run.json).")
        found = _read_json(path / "run.json").get("format")
        if found != FORMAT:
            raise RunError(f"{path} has run format {found}; gorl {gorl.__version__} reads format {FORMAT}. Use the gorl version named in its run.json.")
        for kind, names, wrong in (("file", _FILES, pathlib.Path.is_dir), ("folder", _FOLDERS, pathlib.Path.is_file)):
            for name in names:
                if wrong(path / name):
                    raise RunError(f"{path / name} is in the way: a {kind} of that name belongs there. Remove it, or name another run.")
        folder.facts()
        return folder

    @property
    def members(self) -> list["RunFolder"]:
        """The folders of the seeds: this one, where there is one seed."""
        names = self.facts().get("members")
        if not names:
            return [self]
        home = self.path.absolute().parent.parent  # of a study, if this is the group of one of its programs
        under = home if (home / "study.json").is_file() and self.path.absolute().parent.name == "programs" else None
        return [RunFolder(inside(self.path, name, f"run.json of {self.path}", under=under)) for name in names]

    def plugins(self, named: Sequence[str] = ()) -> tuple[str, ...]:
        """The plugins to build the run's configuration with: those `named` now, if what the run was made with is among them. Raises ConfigError."""
        from gorl.config import files

        return files.confirmed(self.facts().get("plugins", []), named, str(self.path))

    def lock(self, *, wait: float = 0.0) -> None:
        """One process trains in a folder at a time. The lock goes with the process. `wait`: seconds to wait for it."""
        try:
            self._lock = open(self.path / ".lock", "a")
        except OSError as err:
            raise RunError(f"cannot write in {self.path}: {reason(err)}. Mend that, or copy the run to where it can be written.") from err
        deadline = time.monotonic() + wait
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                if time.monotonic() >= deadline:
                    raise RunError(f"another process is training in {self.path}.") from err
                time.sleep(0.1)

    def unlock(self) -> None:
        self._lock.close()

    def facts(self, *needed: str) -> dict[str, Any]:
        """What is known of the run. Raises RunError where something else stands there, or where one that is `needed` is missing."""
        path = self.path / "run.json"
        known = _read_json(path)
        for name, kind in _FACTS.items():
            if name in known or name in needed:
                _check_entry(known, name, kind, path)
        for name in (*known.get("members", ()), *known.get("plugins", ())):
            if not isinstance(name, str):
                raise RunError(f"cannot read {path}: {name!r} stands there for a name.")
        return known

    def set_status(self, status: str, **summary: Any) -> None:
        """Failing to (a full disk) is a warning: what the run holds does not depend on it."""
        try:
            write_json(self.path / "status.json", {"status": status, **summary})
        except OSError as err:
            _log.warning("cannot write status.json of %s: %s. It is %s.", self.path, reason(err), status)

    def status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        if not path.exists():
            return {"status": "unknown"}
        known = _read_json(path)
        _check_entry(known, "status", str, path)
        return known


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as err:
        raise RunError(f"cannot read {path}: {err.strerror}.") from err
    except ValueError as err:
        raise RunError(f"cannot read {path}: it is not JSON ({err}).") from err
    if not isinstance(found, dict):
        raise RunError(f"cannot read {path}: it should hold an object, {{...}}, not {found!r:.50}.")
    return found


def _check_entry(known: dict[str, Any], name: str, kind: type, path: pathlib.Path) -> None:
    if not isinstance(known.get(name), kind):
        what = f"its {name!r} is {known[name]!r}" if name in known else f"it has no {name!r}"
        raise RunError(f"cannot read {path}: {what}.")


def new_path(root: pathlib.Path, name: str) -> pathlib.Path:
    """A folder for a new run: root/name-time, made unique."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path, i = root / f"{name}-{stamp}", 1
    while path.exists():
        i += 1
        path = root / f"{name}-{stamp}-{i}"
    return path


def begin(configuration: Any, path: pathlib.Path, *, study: str, name: str | None = None, **more: Any) -> RunFolder:
    """A run folder for a configuration, with all that is known before the first step; one in it for each of several seeds.

    `name`: what to call the run (None: as the folder).
    """
    experiment = configuration.experiment
    plugins, environment = list(configuration.source.plugins), experiment.task.environment.describe()
    about = {"study": study, "plugins": plugins, "precision": experiment.precision, "environment": environment}
    about["devices"] = {"used": len(devices.used(experiment)), "processes": hosts.count()}
    known = facts(**about, **more)
    folder, name = RunFolder.create(path), name or path.name
    if experiment.num_seeds == 1:
        _describe(folder, configuration, {**known, "name": name, "seed": experiment.seed})
        return folder
    members = {f"seed{seed}": seed for seed in experiment.seeds}
    for member, seed in members.items():
        _describe(RunFolder.create(path / member), configuration.alone(seed), {**known, "name": f"{name}/{member}", "seed": seed})
    _describe(folder, configuration, {**known, "name": name, "seed": experiment.seed, "members": list(members)})
    return folder


def _describe(folder: RunFolder, configuration: Any, known: dict[str, Any]) -> None:
    try:
        configuration.save(folder.path)
        write_json(folder.path / "run.json", known)
    except OSError as err:
        raise RunError(f"cannot begin a run in {folder.path}: {reason(err)}. Name another folder with --run-dir.") from err


def facts(**more: Any) -> dict[str, Any]:
    """What to know about where a result comes from."""
    import jax

    device = jax.devices()[0]
    return {
        "format": FORMAT,
        "gorl": gorl.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count(), "cpu": _cpu(), "cores": os.cpu_count()},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **more,
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two `facts`, as far as results depend on it."""
    before = then.get("versions", {})
    changed = [f"{k} {before.get(k)} -> {v}" for k, v in now["versions"].items() if before.get(k) != v]
    return changed + [f"{k} {then.get(k)} -> {now[k]}" for k in ("gorl", "device", "xla_flags") if then.get(k) != now[k]]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of gorl's own checkout, where it is one."""
    home = pathlib.Path(gorl.__file__).parent
    git = ["git", "-C", str(home)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10)
        if inside.returncode:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10).stdout.strip()
        return {"commit": commit or None, "dirty": bool(dirty)}
    except (OSError, subprocess.TimeoutExpired):
        return None


class TrainedPolicy:
    """A policy with its decoder. `act` takes one observation [D_o] or any batch [..., D_o]."""

    def __init__(self, agent_of: Any, obs_size: int):
        import equinox as eqx
        import jax

        from gorl.policies.agent import RULES

        self._obs_size = obs_size
        self._agents = {rule: agent_of(rule) for rule in RULES}
        self._act = eqx.filter_jit(lambda agent, obs, keys: jax.vmap(lambda o, k: agent.act(o, key=k))(obs, keys))

    def act(self, obs: Any, *, key: Any, rule: str = "mode") -> np.ndarray:
        """Actions in (-1, 1), [..., D_a]: of the policy's mode, or by another rule: 'zero_noise', 'stochastic'."""
        import jax

        obs = np.asarray(obs, np.float32)
        if obs.shape[-1:] != (self._obs_size,):
            raise ValueError(f"the policy observes {self._obs_size} numbers, got an observation of shape {obs.shape}.")
        flat = obs.reshape(-1, self._obs_size)
        actions = self._act(self._agents[rule], flat, jax.random.split(key, flat.shape[0]))
        return np.asarray(actions).reshape(*obs.shape[:-1], -1)


def restore(path: Any, plugins: Sequence[str] = ()) -> tuple[Any, Any]:
    """(experiment, RunState) of a seed's folder, from its newest sound checkpoint; a phase under way is finished as it stands.

    `plugins`: those that it was made with, named again, since they are code.
    """
    from gorl import config, seeds
    from gorl.member import restore_newest

    folder = RunFolder.open(pathlib.Path(path))
    if (members := folder.facts().get("members")) is not None:
        raise RunError(f"{path} holds {len(members)} seeds: name one of them, such as {pathlib.Path(path) / members[0]}.")
    experiment = config.build([str(folder.config_path)], plugins=folder.plugins(plugins)).experiment
    store = CheckpointStore(folder.path)
    try:
        found = restore_newest(experiment, store)
    finally:
        store.close()
    if found is None:
        raise RunError(f"{path} has no checkpoint yet.")
    position, state, _ = found
    steps = list(experiment.steps())
    if position.started:
        step = steps[position.index]
        finish = step.declaration.finish
        state = seeds.one(seeds.each(lambda one: finish(experiment.context(step), one), seeds.expand(state)))
    return experiment, state


def load(path: Any, *, which: str = "selected", plugins: Sequence[str] = ()) -> TrainedPolicy:
    """The trained policy of a run folder (of one seed).

    `which`: 'selected' (what the last phase handed on), 'best' (by evaluation in the last stage) or 'last' (after the
    last update). `plugins`: modules or .py files; a run that was made with some is loaded with those only if they are named
    again, since a folder may come from anybody and they are code. Reads the run's configuration, which replaces gin's global one.
    """
    from gorl.policies.agent import Agent

    experiment, state = restore(path, plugins)
    policies = {"selected": state.policy, "best": state.best, "last": state.learner and state.learner.policy}
    if which not in policies:
        raise ValueError(f"which = {which!r}: it is 'selected', 'best' or 'last'.")
    policy = policies[which]
    if policy is None:
        raise RunError(f"{path} has no policy yet: its first phase has not finished.")
    bound = experiment.task.action_bound
    return TrainedPolicy(lambda rule: Agent(policy, state.decoder, bound, rule), experiment.task.environment.spaces().observation)
