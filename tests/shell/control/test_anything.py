"""No input on the socket stops the daemon: 2,400 random ones, and the next request works."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotwatchd.control.limits import Limits
from spotwatchd.control.table import ROUTES
from spotwatchd.wire import http
from tests.shell.control.conftest import JOB, Daemon
from tests.shell.control.wire import exchange, request

many = settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def beside(home: Path) -> Iterator[Daemon]:
    """A daemon in a loop of its own thread, so that the test may block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="daemon")
    thread.start()

    def do(coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return future.result(20)

    async def make() -> Daemon:
        daemon = Daemon(home)
        limits = Limits(idle_seconds=0.5, body_seconds=0.3, linger_seconds=0.1)
        await daemon.start(limits=limits)
        return daemon

    daemon = do(make())
    http.request(str(daemon.path), "POST", "/v1/jobs", JOB)
    yield daemon
    do(daemon.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()
    assert daemon.bugs == []


def _lives(daemon: Daemon) -> None:
    assert http.request(str(daemon.path), "GET", "/v1/jobs/resnet")["name"] == "resnet"
    assert daemon.bugs == []


def _status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1."), answer[:40]
    return int(answer[9:12])


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["resnet", "/a", "SIGTERM", "sealed", "saving", "s3://abc/x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FIELDS = ["name", "checkpoint_dir", "argv", "env", "step", "phase", "rank", "world_size", "store"]
FIELDS += ["event", "no", "path", "seconds", "action", "interval", "signal", "mark", "ask"]
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), junk, max_size=6)
paths = st.sampled_from(
    [route.path.replace("{name}", "resnet") for route in ROUTES if route.follow is None]
)


@given(path=paths, body=bodies | junk)
@many
def test_any_json(beside: Daemon, path: str, body: Any) -> None:
    """Any JSON at any route is an answer below 500."""
    data = json.dumps(body).encode()
    assert _status(exchange(beside.path, request("POST", path, data))) < 500
    _lives(beside)


@given(path=paths, data=st.binary(max_size=300), method=st.sampled_from(["GET", "POST", "PUT"]))
@many
def test_any_bytes_as_a_body(beside: Daemon, path: str, data: bytes, method: str) -> None:
    """Any bytes as a body are an answer below 500."""
    assert _status(exchange(beside.path, request(method, path, data))) < 500
    _lives(beside)


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)


@given(path=texts | texts.map(lambda text: "/v1/jobs/" + text), method=texts)
@many
def test_any_path_and_method(beside: Daemon, path: str, method: str) -> None:
    """Any request line is an answer below 500."""
    data = f"{method or 'GET'} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert _status(exchange(beside.path, data)) < 500
    _lives(beside)


lines = st.sampled_from(
    [
        b"GET /v1/status HTTP/1.1\r\n",
        b"POST /v1/jobs HTTP/1.1\r\n",
        b"POST /v1/jobs/resnet/progress HTTP/1.0\r\n",
        b"CONNECT resnet:80 HTTP/1.1\r\n",
        b"GET http://a/v1/status HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: close\r\n",
        b"Content-Encoding: deflate\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"{}",
    ]
)


@given(pieces=st.lists(lines | st.binary(max_size=60), max_size=12))
@many
def test_any_bytes_at_all(beside: Daemon, pieces: list[bytes]) -> None:
    """Half requests, pipelines, upgrades and noise end in an answer below 500 or in silence."""
    answer = exchange(beside.path, b"".join(pieces), hang_up=True)
    assert b"HTTP/1.1 5" not in answer
    assert b"HTTP/1.0 5" not in answer
    _lives(beside)
