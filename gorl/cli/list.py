"""gorl list"""

import inspect
from typing import Annotated, Any, Optional

import typer

from gorl.cli import options
from gorl.errors import ConfigError, did_you_mean


def command(
    what: Annotated[str, typer.Argument(metavar="environments|configs|bindings", help="What to list.")],
    name: Annotated[Optional[str], typer.Argument(metavar="NAME", help="With `bindings`: one class or function in full.")] = None,
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    listings = {"environments": _environments, "configs": _configs, "bindings": _bindings}
    if what not in listings:
        raise ConfigError(f"`gorl list {what}`: it lists {', '.join(listings)}.{did_you_mean(what, listings)}")
    listings[what](name, plugins or [])


def _environments(name: str | None, plugins: list[str]) -> None:
    del name, plugins
    from gorl.environments.names import brax_names, dm_control_names

    typer.echo("MuJoCo Playground's DM Control suite (ENV = 'NAME'):")
    typer.echo("  " + "\n  ".join(dm_control_names()))
    typer.echo("Brax (Task.environment = @BraxEnvironment(), BraxEnvironment.name = 'NAME'; see parts/brax.gin):")
    typer.echo("  " + "\n  ".join(brax_names()))
    typer.echo("Your own: @MJCFEnvironment() for an MJCF file, or a class of yours with --plugin (docs/extending.md).")


def _configs(name: str | None, plugins: list[str]) -> None:
    del name, plugins
    from gorl.config import runnable_files, search_paths

    for folder in search_paths()[1:]:
        for file in runnable_files(folder):
            first = next((line for line in (folder / file).read_text().splitlines() if line.startswith("# ") and "gorl-format" not in line), "")
            typer.echo(f"{file:32s} {first.removeprefix('# ')}")
    typer.echo("To see what one runs: gorl check FILE.gin. To run it: gorl train FILE.gin")


def _bindings(name: str | None, plugins: list[str]) -> None:
    from gin import config as gc

    from gorl import registry  # noqa: F401
    from gorl.config import mistakes
    from gorl.config.reader import _import_plugin

    for plugin in plugins:
        _import_plugin(plugin)
    known = sorted(mistakes.configurables())
    if name is None:
        for selector in known:
            doc = inspect.getdoc(gc._REGISTRY.get_match(selector).wrapped) or ""
            typer.echo(f"{selector:28s} {doc.splitlines()[0] if doc else ''}")
        typer.echo("Constants: " + ", ".join(f"%{n}" for n, _ in gc._CONSTANTS.items() if n != "gin.REQUIRED"))
        typer.echo("For one in full: gorl list bindings NAME")
        return
    if name not in known:
        raise ConfigError(f"nothing is called {name!r}.{did_you_mean(name, known)}")
    target: Any = gc._REGISTRY.get_match(name).wrapped
    typer.echo(f"{name}\n\n{inspect.getdoc(target) or ''}\n")
    signature = inspect.signature(target)
    for parameter in mistakes.parameters(name):
        p = signature.parameters[parameter]
        kind = "" if p.annotation is p.empty else f": {inspect.formatannotation(p.annotation)}"
        default = "" if p.default is p.empty else f" = {p.default!r}"
        typer.echo(f"  {name}.{parameter}{kind}{default}")
