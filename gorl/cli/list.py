"""The command `gorl list`."""

import textwrap
from collections.abc import Sequence
from typing import Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import ConfigError, did_you_mean


def command(
    what: Annotated[str, typer.Argument(metavar="environments|configs|bindings", help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="`bindings`: a class or function to show in full; else a part of a name."),
    ] = None,
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    listings = {"environments": _environments, "configs": _configs, "bindings": _bindings}
    if what not in listings:
        raise ConfigError(f"`gorl list {what}`: it lists {', '.join(listings)}.{did_you_mean(what, listings)}")
    listings[what](name, plugins or [])


def _environments(part: str | None, plugins: list[str]) -> None:
    from gorl.config import catalog
    from gorl.environments.names import brax_names, dm_control_names

    catalog.names(plugins)
    from gorl.environments.base import AbstractEnvironment

    named = ("@BraxEnvironment()", "@PlaygroundEnvironment()", "@MJCFEnvironment()")
    others = [e for e in catalog.implementations(AbstractEnvironment) if e not in named]
    groups: dict[str, Sequence[str]] = {
        "MuJoCo Playground's DM Control suite: --set \"ENV = 'NAME'\"": dm_control_names(),
        "Brax: add parts/brax.gin, and --set \"ENV = 'NAME'\"": brax_names(),
        "A MuJoCo model of your own: see parts/mjcf.gin": ("@MJCFEnvironment()",),
        'Others: --set "Task.environment = NAME"': others,
    }
    found = {title: _matching(entries, part) for title, entries in groups.items()}
    if not any(found.values()):
        names = [name for entries in groups.values() for name in entries]
        raise ConfigError(f"no environment has {part!r} in its name.{did_you_mean(part, names)}")
    for title, entries in found.items():
        if entries:
            terminal.echo(title)
            terminal.echo(
                textwrap.fill(
                    "  ".join(entries), width=96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
                )
            )


def _configs(part: str | None, plugins: list[str]) -> None:
    del plugins
    from gorl.config import runnable_files, search_paths
    from gorl.config.files import all_files

    here, *others = search_paths()
    files = all_files if part else runnable_files
    listings = [
        (here, sorted(p.name for p in here.glob("*.gin"))),
        *((folder, files(folder)) for folder in others if folder != here),
    ]
    known = [file for _, files in listings for file in files]
    if part and not _matching(known, part):
        raise ConfigError(f"no configuration has {part!r} in its name.{did_you_mean(part, known)}")
    for folder, files in listings:
        if shown := _matching(files, part):
            terminal.echo(f"{folder}:")
            for file in shown:
                terminal.echo(f"  {file:30s} {_title((folder / file).read_text(encoding='utf-8', errors='replace'))}")
    terminal.echo("To see what one runs: gorl check FILE.gin. To run it: gorl train FILE.gin")


def _title(text: str) -> str:
    """Returns the comment at the top of a file, shortened to one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "gorl-format" not in line:
            lines.append(line.lstrip("# "))
    return textwrap.shorten(" ".join(lines), width=110, placeholder=" ...")


def _matching(entries: Sequence[str], part: str | None) -> list[str]:
    return [e for e in entries if not part or part.lower() in e.lower()]


def _bindings(name: str | None, plugins: list[str]) -> None:
    from gorl.config import catalog

    known = catalog.names(plugins)
    if name is None:
        width = max(map(len, known))
        for selector in known:
            summary = textwrap.shorten(catalog.entry(selector).summary, width=110, placeholder=" ...")
            terminal.echo(f"{selector:{width}s}  {summary}")
        terminal.echo(
            textwrap.fill(
                "Constants: " + ", ".join(catalog.constant_names()),
                width=120,
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
        )
        terminal.echo("One in full, with its parameters: gorl list bindings NAME")
        return
    entry = catalog.entry(name)
    terminal.echo(f"{entry.name}\n\n{entry.doc}\n")
    if not entry.parameters:
        terminal.echo("It has no parameters to bind.")
    width = max((len(p.name) for p in entry.parameters), default=0) + len(entry.name) + 1
    for p in entry.parameters:
        default = "" if p.default is None else f" = {p.default}"
        terminal.echo(f"  {f'{entry.name}.{p.name}':{width}s}  {p.kind}{default}")
        for detail in filter(None, (p.doc, f"one of {', '.join(p.choices)}" if p.choices else "")):
            terminal.echo(textwrap.fill(detail, width=112, initial_indent=" " * 8, subsequent_indent=" " * 8))
