"""Options shared by several commands."""

from typing import Annotated

import typer

_SET = typer.Option(
    "--set",
    "--gin_bindings",
    "--gin_binding",
    metavar="'NAME = VALUE'",
    help="A binding, read after all files. Repeatable.",
)
_PLUGIN = typer.Option(
    "--plugin",
    metavar="MODULE|FILE.py",
    help="A module that registers your own classes. Repeatable; see also $GORL_PLUGINS.",
)

Files = Annotated[
    list[str] | None, typer.Argument(metavar="FILE.gin ...", help="Configurations, read in order.", show_default=False)
]
GinFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--gin_files", "--gin_file", metavar="FILE", help="Like FILE.gin, as gin usually spells it. Repeatable."
    ),
]
Bindings = Annotated[list[str] | None, _SET]
Plugins = Annotated[list[str] | None, _PLUGIN]
Debug = Annotated[bool, typer.Option("--debug", help="Show warnings, logs and tracebacks.")]
