"""Event streams: nothing is missed, nothing piles up, nothing outlives its reader."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from spotwatchd.control.bodies import ProgressBody
from spotwatchd.control.desk import Document
from spotwatchd.control.limits import Limits
from spotwatchd.errors import JobError
from spotwatchd.wire import http
from tests.shell.control.conftest import JOB, Daemon, Until
from tests.shell.control.memory import MemoryDesk
from tests.shell.control.wire import CURL, request

EVENTS = "/v1/jobs/resnet/events"
# Larger than what the kernel buffers for a Unix socket (net.core.wmem_default, 208 KiB).
BIG = "x" * 50_000


class Reader:
    """A raw reader of one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""

    @classmethod
    async def open(cls, daemon: Daemon, target: str = EVENTS) -> Reader:
        # A small limit, so that a reader that does not read does not buffer for itself.
        made = cls(*await asyncio.open_unix_connection(str(daemon.path), limit=1024))
        made.writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        made.head = await made.reader.readuntil(b"\r\n\r\n")
        return made

    async def chunk(self) -> bytes:
        """One chunk of the body; empty when the stream has ended as it should."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 40), 16)
        data = await asyncio.wait_for(self.reader.readexactly(size + 2), 40)
        return data[:-2]

    async def line(self) -> Any:
        """The next event, heartbeats left out; None at the end."""
        while (data := await self.chunk()) == b"\n":
            pass
        return json.loads(data) if data else None

    async def rest(self) -> list[Any]:
        found = []
        while (event := await self.line()) is not None:
            found.append(event)
        return found

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the server cut it: what some tests are about
            await self.writer.wait_closed()


async def test_an_event_right_after_the_head_is_not_missed(up: Daemon) -> None:
    """Whoever has seen the head of the answer sees every later event, in order."""
    for _ in range(50):
        reader = await Reader.open(up)
        await up.desk.ask("resnet")
        await up.desk.progress("resnet", ProgressBody(3))
        assert (await reader.line())["event"] == "ask"
        assert await reader.line() == {"event": "progress", "step": 3, "rank": 0}
        await reader.close()


async def test_the_client_reads_it(up: Daemon, soon: Until) -> None:
    """wire/http.py follows the stream and ends with it."""
    assert up.server is not None

    def follow() -> list[Any]:
        return list(http.stream(str(up.path), EVENTS, idle_timeout=10))

    following = asyncio.create_task(asyncio.to_thread(follow))
    await soon(lambda: up.server is not None and up.server.streams == 1, "it follows")
    await up.call("POST", "/v1/jobs/resnet/ask")
    await up.call("POST", "/v1/jobs/resnet/progress", {"step": 7})
    await up.server.close()
    assert [event["event"] for event in await following] == ["ask", "progress"]


async def test_curl_reads_it(up: Daemon, soon: Until) -> None:
    """With curl -N one sees a line as soon as it is said."""
    curl = await asyncio.create_subprocess_exec(
        *(CURL, "-sSN", "--unix-socket", str(up.path), f"http://x{EVENTS}"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdout is not None
    await soon(lambda: bool(up.desk.jobs["resnet"].events.readers), "curl follows")
    await up.desk.ask("resnet")
    line = await asyncio.wait_for(curl.stdout.readline(), 40)
    assert json.loads(line) == {"event": "ask", "number": 1}
    curl.terminate()
    await curl.communicate()


async def test_a_reader_of_http_1_0(up: Daemon) -> None:
    """An old program gets bare lines without chunks, and the end by closing."""
    reader, writer = await asyncio.open_unix_connection(str(up.path))
    writer.write(f"GET {EVENTS} HTTP/1.0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    await up.desk.ask("resnet")
    assert json.loads(await reader.readline()) == {"event": "ask", "number": 1}
    assert up.server is not None
    await up.server.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_replicator_commands(up: Daemon) -> None:
    """The replicator's stream is one of its own."""
    reader = await Reader.open(up, "/v1/jobs/resnet/replicator/commands")
    assert b"application/x-ndjson" in reader.head
    await up.desk.ask("resnet")
    assert await reader.line() == {"do": "weight", "level": "urgent"}
    await reader.close()


async def test_heartbeat(daemon: Daemon) -> None:
    """A quiet stream says an empty line per heartbeat; the client takes it for none."""
    await daemon.start(limits=Limits(heartbeat_seconds=0.05))
    await daemon.call("POST", "/v1/jobs", JOB)
    reader = await Reader.open(daemon)
    assert [await reader.chunk() for _ in range(3)] == [b"\n"] * 3
    await daemon.desk.ask("resnet")
    assert await reader.line() == {"event": "ask", "number": 1}
    await reader.close()


async def test_a_slow_reader_is_told_and_let_go(daemon: Daemon, soon: Until) -> None:
    """A reader that falls behind gets what was said up to then, an overflow line, and the end."""
    server = await daemon.start(limits=Limits(stream_bytes=100_000))
    await daemon.call("POST", "/v1/jobs", JOB)
    slow, quick = await Reader.open(daemon), await Reader.open(daemon)
    events = daemon.desk.jobs["resnet"].events
    for number in range(40):
        events.say({"event": "note", "number": number, "pad": BIG})
        assert (await quick.line())["number"] == number
    await soon(lambda: len(events.readers) == 1, "the slow one is unsubscribed")
    told = await slow.rest()
    assert told[-1] == {"event": "overflow"}
    numbers = [event["number"] for event in told[:-1]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < 15
    assert await slow.reader.read() == b""
    assert server.streams == 1
    await quick.close()
    await slow.close()


async def test_a_reader_that_never_reads_is_cut_off(daemon: Daemon, soon: Until) -> None:
    """Its connection and its bytes are given up after the linger time."""
    server = await daemon.start(limits=Limits(stream_bytes=100_000, linger_seconds=0.2))
    await daemon.call("POST", "/v1/jobs", JOB)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(str(daemon.path))
        stuck.sendall(request("GET", EVENTS))
        await soon(lambda: server.streams == 1, "the stream is open")
        for _ in range(40):
            daemon.desk.jobs["resnet"].events.say({"event": "note", "pad": BIG})
        await soon(lambda: server.streams == 0, "the stream has ended")
        await soon(lambda: server.connections == 0, "the connection is cut")


async def test_a_reader_that_leaves_is_forgotten(up: Daemon, soon: Until) -> None:
    """No event and no heartbeat is needed to notice that a reader has gone."""
    readers = [await Reader.open(up) for _ in range(20)]
    assert len(up.desk.jobs["resnet"].events.readers) == 20
    for reader in readers:
        await reader.close()
    await soon(lambda: not up.desk.jobs["resnet"].events.readers, "all are unsubscribed")
    await soon(lambda: up.server is not None and up.server.connections == 0, "none is open")


@pytest.mark.parametrize("stuck", [False, True])
async def test_close_ends_streams_at_once(
    daemon: Daemon, stuck: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams end well-formed when the server closes; not a word is logged."""
    server = await daemon.start(limits=Limits(stream_bytes=10 << 20, close_seconds=0.5))
    await daemon.call("POST", "/v1/jobs", JOB)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    readers = [await Reader.open(daemon) for _ in range(50)]
    if stuck:
        for _ in range(20):
            daemon.desk.jobs["resnet"].events.say({"event": "note", "pad": BIG})
    start = asyncio.get_running_loop().time()
    with caplog.at_level(logging.DEBUG):
        await server.close()
        took = asyncio.get_running_loop().time() - start
        gc.collect()
        await asyncio.sleep(0)
    assert took < (3.0 if stuck else 0.5)
    if not stuck:
        assert [await reader.rest() for reader in readers] == [[]] * 50
    assert daemon.desk.jobs["resnet"].events.readers == set()
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert complaints == []
    for reader in readers:
        await reader.close()


async def test_close_is_bounded(daemon: Daemon, soon: Until) -> None:
    """A request that hangs, a sender that dawdles and an idle connection do not hold it up."""
    server = await daemon.start(limits=Limits(close_seconds=0.2))
    daemon.desk.gate.clear()
    heads = [
        b"",
        b"GET /v1",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        request("POST", "/v1/jobs", b'{"name": "a", "checkpoint_dir": "/data/a"}'),
    ]
    made = []
    for head in heads:
        _, writer = await asyncio.open_unix_connection(str(daemon.path))
        writer.write(head)
        made.append(writer)
    await soon(lambda: server.connections == len(heads), "all are in")
    start = asyncio.get_running_loop().time()
    await server.close()
    assert asyncio.get_running_loop().time() - start < 2
    assert server.connections == 0
    daemon.desk.gate.set()
    for writer in made:
        writer.close()


async def test_a_refusal_in_a_stream_is_its_last_line(up: Daemon) -> None:
    """What the desk refuses when the head is out already arrives as a problem in a line."""
    up.desk.failures["events"].append(JobError("too late", where="resnet", remedy="again"))
    reader = await Reader.open(up)
    (told,) = await reader.rest()
    assert (told["event"], told["detail"], told["remedy"]) == ("error", "too late", "again")
    await reader.close()


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_a_defect_in_a_stream_ends_that_one(up: Daemon, error: type[Exception]) -> None:
    """It is reported, told with its number, and other streams go on."""
    broken, whole = await Reader.open(up), await Reader.open(up)
    up.desk.failures["event"].append(error())
    await up.desk.ask("resnet")
    lines = sorted([await broken.line(), await whole.line()], key=lambda told: told["event"])
    assert [told["event"] for told in lines] == ["ask", "error"]
    assert lines[1]["status"] == 500
    assert isinstance(up.bugs.pop(), error)
    assert up.bugs == []
    await broken.close()
    await whole.close()


async def test_an_ask_reaches_a_thousand(daemon: Daemon) -> None:
    """1,000 readers get one ask, each once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await daemon.start()
    await daemon.call("POST", "/v1/jobs", JOB)
    readers = [await Reader.open(daemon) for _ in range(1000)]
    assert server.streams == 1000
    await daemon.call("POST", "/v1/jobs/resnet/ask")
    told = await asyncio.gather(*(reader.line() for reader in readers))
    assert told == [{"event": "ask", "number": 1}] * 1000
    await server.close()
    assert await asyncio.gather(*(reader.rest() for reader in readers)) == [[]] * 1000
    for reader in readers:
        await reader.close()


class Watched:
    """An iterator that counts how often it was closed."""

    def __init__(self, inner: AsyncIterator[Document]) -> None:
        self.inner = inner
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Document]:
        return self

    async def __anext__(self) -> Document:
        return await self.inner.__anext__()

    async def aclose(self) -> None:
        await asyncio.sleep(0.2)  # takes a while, as the last words to a journal would
        self.closed += 1


class WatchedDesk(MemoryDesk):
    """A desk that sees its iterators closed."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: list[Watched] = []

    def events(self, name: str) -> AsyncIterator[Document]:
        self.followed.append(Watched(super().events(name)))
        return self.followed[-1]


async def test_an_iterator_is_closed_once(daemon: Daemon, soon: Until) -> None:
    """The desk is told of the end, whether the reader left, lagged or the server closed."""
    desk = daemon.desk = WatchedDesk()
    server = await daemon.start(limits=Limits(stream_bytes=100_000))
    await daemon.call("POST", "/v1/jobs", JOB)
    gone, slow, stays = [await Reader.open(daemon) for _ in range(3)]
    await gone.close()
    await soon(lambda: [each.closed for each in desk.followed] == [1, 0, 0], "the first left")
    for _ in range(40):
        desk.jobs["resnet"].events.say({"event": "note", "pad": BIG})
        await stays.line()
    await soon(lambda: [each.closed for each in desk.followed] == [1, 1, 0], "the second lagged")
    await server.close()
    assert [each.closed for each in desk.followed] == [1, 1, 1]
    await slow.close()
    await stays.close()


async def test_a_stream_that_begins_while_the_server_closes(daemon: Daemon) -> None:
    """It ends at once, and does not hold the closing up."""
    daemon.desk = WatchedDesk()
    server = await daemon.start(limits=Limits(close_seconds=5))
    await daemon.call("POST", "/v1/jobs", JOB)
    first = await Reader.open(daemon)
    late = Reader(*await asyncio.open_unix_connection(str(daemon.path)))
    late.writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    await late.reader.readuntil(b"}\n")
    start = asyncio.get_running_loop().time()
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    late.writer.write(request("GET", EVENTS))
    await late.reader.readuntil(b"\r\n\r\n")
    assert await late.rest() == []
    await closing
    assert asyncio.get_running_loop().time() - start < 2
    await first.close()
    await late.close()


class Plain:
    """An iterator without aclose, which the contract allows."""

    def __aiter__(self) -> AsyncIterator[Document]:
        return self

    async def __anext__(self) -> Document:
        raise StopAsyncIteration


class SilentDesk(MemoryDesk):
    """A desk with nothing to say."""

    def events(self, name: str) -> AsyncIterator[Document]:
        assert name in self.jobs
        return Plain()


async def test_a_stream_that_ends_by_itself(daemon: Daemon) -> None:
    """When the desk has no more to say the stream ends well-formed and closes."""
    daemon.desk = SilentDesk()
    await daemon.start()
    await daemon.call("POST", "/v1/jobs", JOB)
    reader = await Reader.open(daemon)
    assert await reader.rest() == []
    assert await reader.reader.read() == b""
    await reader.close()


async def test_a_reader_that_hangs_up_before_the_head(up: Daemon, soon: Until) -> None:
    """Asking for a stream and leaving at once leaves nothing behind."""
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as hasty:
            hasty.connect(str(up.path))
            hasty.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert up.server is not None
    await up.call("GET", "/v1/status")
    await soon(lambda: up.server is not None and up.server.connections == 0, "none is open")
    assert up.desk.jobs["resnet"].events.readers == set()
    assert up.server.streams == 0
