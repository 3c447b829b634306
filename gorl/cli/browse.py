"""The command `gorl browse`."""

import ipaddress
import pathlib
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import ConfigError, did_you_mean

_HOST = "127.0.0.1"
_EVERYWHERE = ("0.0.0.0", "::")  # a server can listen on these, but a browser cannot open them


def command(
    repo: Annotated[
        pathlib.Path | None,
        typer.Option("--repo", help="The folder that contains .aim (default: $GORL_AIM_REPO, else this folder)."),
    ] = None,
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Show links of this study only.")] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on. Aim has no password: any other address is open to other machines.",
        ),
    ] = _HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on (0: any that is free).")
    ] = 43800,
    write: Annotated[bool, typer.Option("--write", help="Let the pages change and delete runs.")] = False,
    debug: options.Debug = False,
) -> None:
    from gorl.tracking import aim_repository, server

    if not aim_repository.available():
        raise ConfigError(
            "Aim is not installed (it has wheels for Python 3.11 and 3.12): pip install aim."
            " A run's own record is its metrics.jsonl."
        )
    path = aim_repository.repository(str(repo) if repo else None)
    if not (path / ".aim").is_dir():
        raise ConfigError(
            f"{path} has no Aim repository yet: `gorl train quickstart.gin` makes one. Elsewhere? Name it with --repo."
        )
    for folder, status in aim_repository.close_dead_runs(path).items():
        terminal.echo(f"{folder} no longer runs: closed in Aim as {status}.")
    aim_repository.index(path)
    with server.listen(host, port) as listener:
        base = f"http://{_HOST if host in _EVERYWHERE else host}:{listener.getsockname()[1]}"
        does = "read, change and delete" if write else "read"
        lines = [f"Aim at {base}   (Ctrl-C ends it; its pages can {does} runs)", *_links(path, base, study)]
        if not _is_loopback(host):
            terminal.echo(
                f"gorl: WARNING: Aim listens at {host}. It has no password, so whoever reaches this machine there can"
                f" {does} its runs. Safer: leave --host out, and forward the port, say with ssh -L.",
                err=True,
            )
        _serve(path, listener, write, debug, lines)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _links(path: pathlib.Path, base: str, study: str | None) -> list[str]:
    """Returns one line with a link for each prepared page."""
    from gorl.tracking import aim_repository, links

    found = aim_repository.studies(path)
    if study is not None and study not in found:
        raise ConfigError(
            f"--study {study}: {path} has the studies {', '.join(found) or 'none'}.{did_you_mean(study, found)}"
        )
    lines = [f"all runs:  {links.runs_url(base)}"]
    for name, pictures in found.items():
        if study in (None, name):
            lines.append(f"{name}, returns:  {links.returns_url(base, name)}")
            if pictures:
                lines.append(f"{name}, pictures:  {links.images_url(base, name)}")
    return lines


def _serve(path: pathlib.Path, listener: socket.socket, write: bool, debug: bool, lines: Sequence[str]) -> None:
    """Serves Aim's pages until Ctrl-C, and prints the lines once they can be opened."""
    from gorl.tracking import server

    old = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with server.serving(path, listener, write=write, debug=debug) as child:
            for line in lines:
                terminal.echo(line)
            sys.stdout.flush()
            child.wait()
        raise ConfigError("Aim's server has ended: --debug shows why.")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, old)
