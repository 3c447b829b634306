"""A private server of Aim's pages: it answers its own pages alone, and changes nothing unless it was asked to.

Aim's own server answers requests of every origin, so any page that is open in a browser could read, change and delete
runs. A browser says where a request comes from (`Origin`, `Sec-Fetch-Site`) and by which name it found the server
(`Host`). The name of a page that leads its visitors here (DNS rebinding) is not a name of this machine.
"""

import contextlib
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from gorl.errors import ConfigError

_SETTINGS = "GORL_BROWSE"
_READS = ("/get-batch", "/search/metric/align")
"""What Aim's pages read with POST, because what they ask for is long."""

_PROTECTION = [
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]
_PATIENCE = 90.0  # seconds that the server may take to begin

App = Callable[[dict[str, Any], Any, Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]


class Private:
    """An ASGI application that passes on the requests of its own pages. `names`: how this machine may be called."""

    def __init__(self, app: App, *, names: list[str], write: bool):
        self._app, self._names, self._write = app, {name.lower() for name in names}, write

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        problem = self.refusal(scope)
        if problem is not None:
            await _refuse(send, problem)
            return

        async def send_protected(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message["headers"] if not k.lower().startswith(b"access-control-")]
                message = {**message, "headers": [*kept, *_PROTECTION]}
            await send(message)

        await self._app(scope, receive, send_protected)

    def refusal(self, scope: dict[str, Any]) -> str | None:
        """Returns why a request is not answered, or None if it is."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").lower())
        (host, *more) = headers.get("host", [""])
        if more or not self._is_known(host):
            return "this machine has another name. Open the address that `gorl browse` printed."
        if any(origin not in (f"http://{host}", f"https://{host}") for origin in headers.get("origin", [])):
            return "a page of another origin asked."
        came_by_link = headers.get("sec-fetch-mode") == ["navigate"] and headers.get("sec-fetch-dest") == ["document"]
        is_read = scope["method"] in ("GET", "HEAD")
        if not set(headers.get("sec-fetch-site", [])) <= {"same-origin", "none"} and not (came_by_link and is_read):
            return "a page of another site asked."
        if not (self._write or is_read or self._is_long_read(scope)):
            return "these pages only read. `gorl browse --write` lets them change and delete runs."
        return None

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").removesuffix(".")
        return name in self._names or _is_address(name)

    def _is_long_read(self, scope: dict[str, Any]) -> bool:
        return scope["method"] == "POST" and scope["path"].rstrip("/").endswith(_READS)


def _is_address(name: str) -> bool:
    """Whether a name is an address in numbers, which no page can lead to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Any, problem: str) -> None:
    body = f"gorl browse: {problem}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": [*headers, *_PROTECTION]})
    await send({"type": "http.response.body", "body": body})


def app() -> Private:
    """Returns the application of one worker process, which its environment describes."""
    from aim.web.run import app as aims

    return Private(aims, **json.loads(os.environ[_SETTINGS]))


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens there. Raises ConfigError if that is not possible, such as for a taken port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as err:
        reason = os.strerror(err.errno) if err.errno and err.errno > 0 else err.strerror  # a name unknown: < 0
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {reason}. Choose another with --port (0: any that is free)."
        ) from err


@contextlib.contextmanager
def serving(path: pathlib.Path, listener: socket.socket, *, write: bool, debug: bool) -> Iterator[subprocess.Popen]:
    """Context manager in which a process serves Aim's pages of the repository at `path` at an open socket.

    Raises ConfigError if it does not begin to answer. The end of the context ends the process.
    """
    from aim import Repo
    from aim.cli.utils import build_db_upgrade_command
    from aim.sdk.index_manager import RepoIndexManager
    from aim.sdk.run_status_manager import RunStatusManager
    from aim.web import configs

    host, port = listener.getsockname()[:2]
    names = ["localhost", host, socket.gethostname(), socket.getfqdn()]
    repo = Repo.from_path(str(path))
    env = {
        **os.environ,
        configs.AIM_ENV_MODE_KEY: "prod",
        configs.AIM_UI_MOUNTED_REPO_PATH: repo.path,
        _SETTINGS: json.dumps({"names": names, "write": write}),
        **({} if write else {configs.AIM_READ_ONLY_UI: "1"}),
    }
    output = None if debug else subprocess.DEVNULL
    if subprocess.run(build_db_upgrade_command(), env=env, stdout=output, stderr=output).returncode:
        raise ConfigError(f"Aim's database in {repo.path} cannot be prepared: --debug shows why.")
    number = str(listener.fileno())
    words = ["gorl.tracking.server:app", "--factory", "--fd", number, "--workers", "2", "--log-level", "error"]
    more = {"stdout": output, "stderr": output, "pass_fds": [listener.fileno()], "start_new_session": True}
    child = subprocess.Popen([sys.executable, "-m", "uvicorn", *words], env=env, **more)
    try:
        _wait_until_it_answers(child, host, port)
        RepoIndexManager.get_index_manager(repo).start()
        RunStatusManager(repo).start()
        yield child
    finally:
        _end(child)


def _wait_until_it_answers(child: subprocess.Popen, host: str, port: int) -> None:
    """Raises ConfigError if the server has ended, or does not answer in time."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    name = everywhere.get(host, host)
    url = f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
    deadline = time.monotonic() + _PATIENCE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with direct.open(url, timeout=5.0):
                return
        except urllib.error.HTTPError as err:
            raise ConfigError(f"Aim's server answers {url} with {err.code}: --debug shows why.") from err
        except OSError:
            time.sleep(0.2)
    raise ConfigError(f"Aim's server does not answer at {url}: --debug shows why.")


def _end(child: subprocess.Popen) -> None:
    """Ends the server with its workers."""
    import signal

    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
            return
