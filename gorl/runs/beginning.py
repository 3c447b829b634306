"""Makes the folder of a new run, with all that is known before its first step."""

import pathlib
from collections.abc import Iterable
from typing import Any, Protocol

from gorl.errors import RunError
from gorl.runs.files import reason, write_json
from gorl.runs.folder import RunFolder
from gorl.runs.provenance import facts
from gorl.runtime import hosts


class Declaration(Protocol):
    """A configuration as a run's folder needs it, see `gorl.config.Configuration`."""

    experiment: Any

    @property
    def plugins(self) -> tuple[str, ...]: ...

    @property
    def plugin_files(self) -> dict[str, dict[str, str]]: ...

    @property
    def config_hash(self) -> str: ...

    def save(self, folder: pathlib.Path) -> None: ...

    def keep_inputs(self, folder: pathlib.Path) -> None: ...

    def for_seed(self, seed: int) -> "Declaration": ...


def made_with(configuration: Declaration) -> dict[str, Any]:
    """Returns everything that a run which begins now is made with, for its run.json. Starts the device."""
    experiment = configuration.experiment
    return facts(
        plugins=list(configuration.plugins),
        plugin_files=configuration.plugin_files,
        precision=experiment.precision,
        environment={**experiment.task.describe(), **experiment.task.content()},
        devices={"used": len(experiment.choose_devices()), "processes": hosts.process_count()},
    )


def begin(
    configuration: Declaration, path: pathlib.Path, *, study: str, name: str | None = None, **more: Any
) -> RunFolder:
    """Makes the folder of a run, with all that is known before its first step, and in it one for each of several seeds.

    `name`: the run's name; None takes the folder's. `more`: further facts for run.json. Raises RunError.
    """
    experiment = configuration.experiment
    known = {**made_with(configuration), "study": study, **more}
    folder, name = RunFolder.create(path), name or path.name
    members: Iterable[tuple[str, int]] = [(f"seed{seed}", seed) for seed in experiment.seeds]
    if experiment.num_seeds == 1:
        _describe(folder, configuration, {**known, "name": name, "seed": experiment.seed})
        return folder
    for member, seed in members:
        own = {**known, "name": f"{name}/{member}", "seed": seed}
        _describe(RunFolder.create(path / member), configuration.for_seed(seed), own)
    together = {"seed": experiment.seed, "members": [member for member, _ in members]}
    _describe(folder, configuration, {**known, "name": name, **together})
    return folder


def _describe(folder: RunFolder, configuration: Declaration, known: dict[str, Any]) -> None:
    try:
        configuration.save(folder.path)
        configuration.keep_inputs(folder.path)
        own = {"config_sha256": configuration.config_hash, "folder": str(folder.path.absolute())}
        write_json(folder.path / "run.json", {**known, **own})
    except OSError as err:
        raise RunError(
            f"cannot begin a run in {folder.path}: {reason(err)}. Name another folder with --run-dir."
        ) from err
