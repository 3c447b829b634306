"""The `gorl` command."""

import importlib
import os
import shlex
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from gorl.cli import terminal
from gorl.errors import ConfigError
from gorl.runtime import quiet, signals, streams
from gorl.version import __version__

COMMANDS = {
    "train": "Train the experiment that a gin file declares, or resume a run.",
    "sweep": "Run a study: every variant and seed that a gin file declares.",
    "evaluate": "Evaluate the policies of a run on fresh episodes.",
    "report": "Report statistics, curves and tables of runs and studies.",
    "inspect": "Show a run's position, checkpoints, arrays and failures.",
    "browse": "Open the tracked runs in Aim.",
    "track": "Import runs into a tracker again, from their own records.",
    "draw": "Draw pictures of a run from its newest checkpoint.",
    "list": "List environments, configurations, or names that gin can bind.",
    "check": "Show what a configuration would run, without running it.",
    "bench": "Measure how fast a task's physics runs on this machine.",
    "cache": "List or prune the results of phases that runs share.",
}


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0].endswith(".gin"):
            words = " ".join(map(shlex.quote, args))
            raise ConfigError(
                f"{args[0]} is a file, not a command. Did you mean gorl train {words}, or gorl check {words}?"
            )
        return super().resolve_command(ctx, args)


def build_app() -> typer.Typer:
    """Returns the application with every command of `COMMANDS`."""
    app = typer.Typer(
        name="gorl",
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Declarative experiments in online reinforcement learning with generative policies.",
    )
    for name, text in COMMANDS.items():
        app.command(name, help=text)(importlib.import_module(f"gorl.cli.{name}").command)

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
        if version:
            terminal.echo(f"gorl {__version__}")
            raise typer.Exit

    return app


def _require_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as err:
        raise ConfigError("the working directory does not exist any more. Change into another one: cd ~.") from err


def main() -> None:
    """Runs the command line. An error is printed as one message, and with its traceback only if --debug is given."""
    streams.make_patient()
    signals.own_process()
    quiet.before_imports("--debug" in sys.argv)
    from gorl.errors import GorlError

    try:
        _require_working_directory()
        build_app()()
    except GorlError as err:
        if "--debug" in sys.argv:
            raise
        terminal.echo(f"gorl: {err}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        terminal.echo("gorl: interrupted.", err=True)
        sys.exit(130)
    except Exception as err:
        if "--debug" in sys.argv:
            raise
        terminal.echo(
            f"gorl: unexpected {type(err).__name__}: {err}\n"
            "This is a defect of gorl or of code it was given; --debug shows the traceback.",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
