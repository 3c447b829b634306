"""The command `gorl draw`."""

import collections
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from gorl.experiment import Experiment
    from gorl.phases.base import StageEnd
    from gorl.pictures import AbstractPicture

_PICTURE = typer.Option(
    "--picture",
    metavar="NAME",
    help="A picture to draw: ActionDensity, DecoderMap or Rollout (default: those of the run). Repeatable.",
)
_SET = typer.Option(
    "--set", metavar="'NAME = VALUE'", help="A binding, such as 'Rollout.camera = \"side\"'. Repeatable."
)


def command(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    pictures: Annotated[list[str] | None, _PICTURE] = None,
    bindings: Annotated[list[str] | None, _SET] = None,
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl.runs.folder import RunFolder
    from gorl.runtime import compilation

    compilation.use_persistent_cache()
    folder = RunFolder.open(run)
    drawn = sum(_draw(member.path, pictures or [], bindings or [], plugins or []) for member in folder.members)
    if not drawn:
        raise RunError(f"nothing was drawn of {run}.")


def _draw(path: pathlib.Path, names: list[str], bindings: list[str], plugins: list[str]) -> int:
    """Draws pictures of one seed from its newest checkpoint. Returns how many files it wrote."""
    from gorl.pictures.album import Album, describe_failure
    from gorl.runtime.precision import matrix_products

    album = Album(_pictures(path, names, bindings, plugins), path, [], set())
    if not album.pictures:
        raise RunError(f"{path} declares no pictures: name some, such as --picture ActionDensity.")
    experiment, end = _end(path, plugins)
    count = 0
    for name, picture in album.pictures.items():
        try:
            with matrix_products(experiment.precision):
                files = album.draw(name, picture, end)
        except Exception as err:
            terminal.echo(f"gorl: picture {name} of {path} is left out: {describe_failure(err)}", err=True)
        else:
            for file in files:
                terminal.echo(str(file))
            count += len(files)
    return count


def _pictures(
    path: pathlib.Path, names: list[str], bindings: list[str], plugins: Sequence[str]
) -> "Sequence[AbstractPicture]":
    """Returns the named pictures, or those of the run's configuration.

    Bindings that the run lacks are taken from parts/pictures.gin.
    """
    from gorl import config
    from gorl.config import catalog
    from gorl.pictures import AbstractPicture
    from gorl.runs.folder import RunFolder
    from gorl.training.trained import confirmed_plugins

    folder = RunFolder.open(path)
    plugins = confirmed_plugins(folder, plugins)
    if names:
        catalog.names(plugins)
        known = [k.removeprefix("@").removesuffix("()") for k in catalog.implementations(AbstractPicture)]
        for name in names:
            if name not in known:
                raise RunError(
                    f"there is no picture {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}"
                )
        bindings = [*bindings, f"Experiment.pictures = [{', '.join(f'@{name}()' for name in names)}]"]
    built = config.build([str(folder.config_path)], bindings, plugins, defaults=["parts/pictures.gin"])
    return built.experiment.pictures


def _end(path: pathlib.Path, plugins: list[str]) -> "tuple[Experiment, StageEnd]":
    """Returns a seed's experiment and the state in its newest checkpoint, as the end of the record's last stage."""
    from gorl.phases.base import StageEnd
    from gorl.runs.record import read_entries
    from gorl.training import trained

    experiment, state = trained.restore(path, plugins)
    newest = collections.deque(read_entries(path / "metrics.jsonl"), maxlen=1)
    if not newest:
        raise RunError(f"{path} has no record yet.")
    (last,) = newest
    planned = [s for s in experiment.planned_phases() if s.stage == last.stage][-1]
    return experiment, StageEnd(experiment.context(planned, experiment.seed), state, last.unit, last.env_steps)
