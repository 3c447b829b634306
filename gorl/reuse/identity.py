"""Identities of phases: everything that a phase's result depends on, and its hash.

A phase's result is a function of its configuration, its initial state, the seeds, and the platform: code, libraries and
device. The initial state is itself the result of the phase before, so the hashes form a chain.
"""

import functools
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from gorl import runs
from gorl.config import Configuration, trace_phases
from gorl.experiment import Experiment, PlannedPhase
from gorl.reuse.results import Identity, Reuse
from gorl.reuse.store import default_store
from gorl.version import HOME

NOT_RESULTS = ("stages", "seed", "num_seeds", "checkpoint_interval", "trackers", "pictures")
"""Parameters of Experiment on which no phase's result depends, or which an identity contains in another form."""


def identities(configuration: Configuration, seeds: Sequence[int] | None = None) -> list[Identity]:
    """Returns the identity of each phase of the experiment, in order. Starts the device, whose kind is part of them.

    `seeds`: the seeds of the program that computes the phases (None: the experiment's).
    """
    experiment, tree = configuration.experiment, configuration.tree_here
    if configuration.plugins:  # what a plugin reads when it is traced belongs to it
        trace_phases(configuration)
    parts: dict[str, Any] = {"platform": {**platform_facts(), "plugins": configuration.plugin_files}}
    parts["experiment"] = {name: value for name, value in tree.items() if name not in NOT_RESULTS}
    parts["environment"] = tree["task"]["environment"]
    parts["content"] = {**experiment.task.content(), **{f.name: f.sha256 for f in configuration.input_files}}
    parts["seeds"] = list(experiment.seeds if seeds is None else seeds)
    found: list[Identity] = []
    key = _hash(parts)
    for planned in experiment.planned_phases():
        phase_parts = {
            "stage": planned.stage,
            "phase": planned.phase,
            "settings": tree["stages"][planned.stage]["phases"][planned.phase],
        }
        if experiment.budget is not None:  # what is set aside for later decides where a phase ends
            phase_parts["set_aside"] = _set_aside(experiment, planned)
        key = _hash([key, phase_parts])
        found.append(Identity(key, {**parts, "before": [i.parts["settings"] for i in found], **phase_parts}))
    return found


def _set_aside(experiment: Experiment, planned: PlannedPhase) -> list[int]:
    """Returns the environment steps that the rest of the phase's stage needs, and those of the next stage."""
    following = planned.stage + 1
    after = [experiment.least_env_steps(following)] if following < len(experiment.stages) else []
    return [experiment.least_env_steps(planned.stage, planned.phase), *after]


@functools.cache
def platform_facts() -> dict[str, Any]:
    """Returns what a result depends on besides the configuration: code, versions, device, threads, flags."""
    known = runs.facts()
    device = {k: v for k, v in known["device"].items() if k != "cores"}
    return {
        "python": platform.python_version(),
        "versions": known["versions"],
        "code": code_hash(),
        "device": device,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "xla_flags": known["xla_flags"],
        "flags": known["flags"],
    }


@functools.cache
def code_hash() -> str:
    """Returns a hash of gorl's source files."""
    digest = hashlib.sha256()
    for path in sorted(HOME.rglob("*.py")):
        digest.update(f"{path.relative_to(HOME)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def reuse_of(configuration: Configuration) -> Reuse:
    """Returns the `Reuse` of a configuration's run, with the default store."""
    return Reuse(default_store(), identities(configuration))
