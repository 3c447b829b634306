"""The command `gorl track`."""

import pathlib
from typing import Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import ConfigError, RunError, did_you_mean

_REPO = typer.Option(
    "--repo",
    metavar="DIR",
    help="The folder of .aim (default: $GORL_AIM_REPO, else this folder), or of TensorBoard's logs (./tensorboard).",
)


def command(
    what: Annotated[str, typer.Argument(metavar="import", help="The action: import.")],
    runs: Annotated[
        list[pathlib.Path],
        typer.Argument(metavar="RUN|STUDY|GROUP ...", help="Folders of runs, groups of seeds, or studies."),
    ],
    repo: Annotated[pathlib.Path | None, _REPO] = None,
    to: Annotated[str, typer.Option("--to", metavar="aim|tensorboard", help="The tracker to import into.")] = "aim",
    debug: options.Debug = False,
) -> None:
    del debug
    if what != "import":
        raise ConfigError(f"`gorl track {what}`: it does one thing, import.{did_you_mean(what, ['import'])}")
    from gorl.runs.folder import RunFolder
    from gorl.runs.record import check_record
    from gorl.tracking import aim_repository, imports, local

    where = (
        aim_repository.repository(repo and str(repo))
        if to == "aim"
        else (repo or pathlib.Path("tensorboard")).absolute()
    )
    tracker, delete = imports.create_tracker(to, where)
    done = failed = 0
    for path in runs:
        try:
            folders = local.folders(path)
        except RunError as err:
            failed += 1
            terminal.echo(f"gorl: {err}", err=True)
            continue
        for folder in folders:
            try:
                run = RunFolder.open(folder)
                run.status()  # raises RunError for a damaged folder before anything is imported, as does the next line
                check_record(run.record_path)
                terminal.echo(f"{folder}: {imports.import_run(tracker, delete, folder)}")
                done += 1
            except RunError as err:
                failed += 1
                terminal.echo(f"gorl: {err}", err=True)
    look = f"gorl browse --repo {where}" if to == "aim" else f"tensorboard --logdir {where}"
    if done:
        terminal.echo(f"{done} of {done + failed} runs are in {where}. Look at them: {look}")
    else:
        raise RunError("no run was imported.")
    if failed:
        raise typer.Exit(1)
