"""The private server answers its own pages alone."""

import asyncio
import socket

import pytest

from gorl.errors import ConfigError
from gorl.tracking.server import Private, listen

HERE = {"host": "localhost:43800"}
OWN = {**HERE, "origin": "http://localhost:43800", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def _aim(scope, receive, send):
    """Answers as Aim does: every origin."""
    allowed = [(b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-credentials", b"true")]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"x"), *allowed]})
    await send({"type": "http.response.body", "body": b"secret"})


def ask(method="GET", path="/api/runs/search/run/", headers=HERE, *, write=False):
    """(status, headers, body) of a request."""
    scope = {"type": "http", "method": method, "path": path}
    scope["headers"] = [
        (k.encode(), v.encode()) for k, v in (headers.items() if isinstance(headers, dict) else headers)
    ]
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Private(_aim, names=["localhost", "Box"], write=write)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()


@pytest.mark.parametrize(
    "headers",
    [
        HERE,
        OWN,
        {"host": "127.0.0.1:9"},  # a port that is forwarded
        {"host": "[::1]:43800", "origin": "http://[::1]:43800"},
        {"host": "localhost"},
        {"host": "box:1"},
        {"host": "LOCALHOST:43800", "origin": "http://localhost:43800"},
        {"host": "192.168.1.7:43800"},
        {**HERE, "sec-fetch-site": "none", **LINK},
        {**HERE, "sec-fetch-site": "cross-site", **LINK},
    ],
    ids=str,
)
def test_its_own_pages_are_answered_and_nobody_is_told_to_share_it(headers):
    status, sent, body = ask(headers=headers)
    assert (status, body) == (200, "secret")
    assert not [name for name in sent if name.lower().startswith(b"access-control")]
    assert sent[b"x-frame-options"] == b"DENY"


STRANGERS = [
    {**HERE, "origin": "http://evil.example"},
    {**HERE, "origin": "null"},
    {**HERE, "origin": "http://localhost:8000"},  # another server of this machine
    {**HERE, "origin": "http://localhost:43800.evil.example"},
    {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {**HERE, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"host": "evil.example:43800"},
    {"host": "evil.example", "origin": "http://evil.example"},  # DNS rebinding: the browser thinks it is its own
    {"host": "localhost.evil.example:43800"},
    {"host": ""},
    {},
    [("host", "localhost:1"), ("host", "evil.example")],
    [("host", "localhost:1"), ("origin", "http://localhost:1"), ("origin", "http://evil.example")],
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "OPTIONS"])
def test_pages_of_others_are_refused_in_every_way(method, headers):
    status, sent, body = ask(method, headers=headers, write=True)
    assert status == 403 and body.startswith("gorl browse: ") and "secret" not in body
    assert not [name for name in sent if name.lower().startswith(b"access-control")]


CHANGES = [
    ("DELETE", "/api/runs/x/"),
    ("POST", "/api/runs/delete-batch/"),
    ("POST", "/api/runs/archive-batch"),
    ("PUT", "/api/runs/x/"),
    ("POST", "/api/runs/x/tags/new/"),
    ("PATCH", "/api/runs/x/get-batch/"),
]


@pytest.mark.parametrize("method, path", CHANGES)
def test_it_only_reads_unless_it_was_asked_to_write(method, path):
    assert ask(method, path, OWN)[0] == 403 and "--write" in ask(method, path, OWN)[2]
    assert ask(method, path, OWN, write=True)[0] == 200


@pytest.mark.parametrize(
    "path", ["/api/runs/x/metric/get-batch/", "/api/runs/search/metric/align/", "/api/runs/images/get-batch"]
)
def test_what_is_read_with_post_is_read(path):
    assert ask("POST", path, OWN)[0] == 200


def test_a_link_from_elsewhere_changes_nothing():
    assert (
        ask("POST", "/api/runs/delete-batch/", {**HERE, "sec-fetch-site": "cross-site", **LINK}, write=True)[0] == 403
    )


def test_only_http_is_passed_on():
    called = []

    async def inner(scope, receive, send):
        called.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        asyncio.run(Private(inner, names=[], write=True)({"type": kind}, None, None))
    assert called == ["lifespan"]


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {number}: Address already in use. Choose another with --port"):
            listen("127.0.0.1", number)
    with listen("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0
