"""Options that several commands share."""

from typing import Annotated, Optional

import typer

Files = Annotated[Optional[list[str]], typer.Argument(metavar="FILE.gin ...", help="Configurations, read in order.", show_default=False)]
GinFiles = Annotated[Optional[list[str]], typer.Option("--gin_files", "--gin_file", metavar="FILE", help="The same, in gin's usual spelling.")]
Bindings = Annotated[Optional[list[str]], typer.Option("--set", "--gin_bindings", "--gin_binding", metavar="'NAME = VALUE'", help="A binding, after all files. Repeatable.")]
Plugins = Annotated[Optional[list[str]], typer.Option("--plugin", metavar="MODULE|FILE.py", help="A module of your own that registers classes. Repeatable; also $GORL_PLUGINS.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show warnings, logs and tracebacks.")]
