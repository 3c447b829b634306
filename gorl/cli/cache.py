"""The command `gorl cache`."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gorl.cli import options, terminal

if TYPE_CHECKING:
    from gorl.reuse.store import StoredPhase


def command(
    prune: Annotated[
        float | None,
        typer.Option(
            "--prune", metavar="GB", min=0.0, help="Remove the least recently used results above so many gibibytes."
        ),
    ] = None,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl.reuse.store import default_store

    store = default_store()
    if prune is not None:
        removed = store.prune(int(prune * 1024**3))
        terminal.echo(f"removed {len(removed)} results, {_size(sum(e.bytes for e in removed))}")
    entries = store.entries()
    if entries:
        _table(entries)
    terminal.echo(
        f"{store.folder}: {len(entries)} results of phases,"
        f" {_size(sum(e.bytes for e in entries))} of {_size(store.limit)} ($GORL_CACHE_GB)"
    )


def _table(entries: "list[StoredPhase]") -> None:
    from rich.table import Table

    table = Table("result", "environment", "stage", "phase", "seeds", "env steps", "took", "size", "last used")
    for e in reversed(entries):
        parts = e.parts
        where = (
            e.key[:12],
            _entry(parts, "environment", "name"),
            _entry(parts, "stage"),
            _entry(parts, "settings", "@"),
        )
        seeds = ",".join(map(str, parts.get("seeds", ())))
        table.add_row(
            *where,
            seeds,
            f"{e.env_steps:,}",
            f"{e.seconds:.1f} s",
            _size(e.bytes),
            f"{(time.time() - e.used) / 3600:.1f} h ago",
        )
    terminal.console().print(table)


def _entry(parts: Any, *names: str) -> str:
    """Returns a value in an entry of the store as text, or '?' if the entry is damaged."""
    for name in names:
        parts = parts.get(name) if isinstance(parts, dict) else None
    return "?" if parts is None else str(parts)


def _size(count: int) -> str:
    return f"{count / 1024**3:.2f} GiB" if count >= 1024**3 else f"{count / 1024**2:.1f} MiB"
