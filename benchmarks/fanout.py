"""How long one ask takes to reach 1,000 connections, by stream and by board.

One process asks (this one: the server and a desk with a board), others receive: one with 1,000 raw
connections to the event stream, 1,000 with one connection each, and one with 1,000 mappings of
the board. The board is read as a training loop reads it, by looking, so its figure holds one turn
of looking at all 1,000. Beside them stands the floor: the same bytes written to 1,000 bare Unix
sockets in a loop.

Prints a list of rows; all times in milliseconds.

    python benchmarks/fanout.py [--connections 1000] [--asks 50]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import selectors
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn, cast

from spotwatchd.control.desk import Desk, Document
from spotwatchd.control.server import ControlServer
from spotwatchd.wire.board import BoardReader, BoardWriter

Channel = multiprocessing.connection.Connection
NAME = "bench"
_RESULT = struct.Struct("d")
GOAL = 50.0  # ms, p99, 1,000 processes
EVENT = {"event": "ask", "number": 1, "cause": "notice", "action": "terminate"}


def now() -> float:
    """The clock that both processes share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class BenchDesk:
    """The part of a desk that a fan-out needs: one job, its board, its readers."""

    def __init__(self, board: BoardWriter) -> None:
        """With the board of the one job."""
        self.board = board
        self.readers: set[asyncio.Queue[Document]] = set()

    def owner(self, name: str) -> int | None:
        """Ours."""
        return os.geteuid() if name == NAME else None

    async def events(self, name: str) -> AsyncIterator[Document]:
        """One queue per reader."""
        assert name == NAME  # noqa: S101 - a benchmark
        mine: asyncio.Queue[Document] = asyncio.Queue()
        self.readers.add(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self.readers.discard(mine)

    def ask(self) -> float:
        """Ask by board and stream; the moment it began."""
        start = now()
        number = self.board.number + 1
        self.board.ask(number, deadline=start + 120, cause="notice", action="terminate")
        for reader in self.readers:
            reader.put_nowait({**EVENT, "number": number})
        return start


def receive_streams(path: str, count: int, channel: Channel) -> None:
    """Receiver: ``count`` event streams; sends the arrival times of each ask."""
    made = [_subscribe(path) for _ in range(count)]
    _receive(made, channel)


def receive_bare(path: str, count: int, channel: Channel) -> None:
    """Receiver: ``count`` bare connections; the floor."""
    made = []
    for _ in range(count):
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].connect(path)
    _receive(made, channel)


def _subscribe(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    made.sendall(f"GET /v1/jobs/{NAME}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += made.recv(4096)
    return made


def _receive(made: list[socket.socket], channel: Channel) -> None:
    selector = selectors.EpollSelector()
    for each in made:
        each.setblocking(False)
        selector.register(each, selectors.EVENT_READ)
    channel.send("ready")
    while channel.recv() == "next":
        channel.send("armed")
        channel.send(_arrivals(selector, len(made)))


def _arrivals(selector: selectors.EpollSelector, count: int) -> list[float]:
    told: dict[int, float] = {}
    while len(told) < count:
        for key, _ in selector.select():
            data = cast(socket.socket, key.fileobj).recv(4096)
            if b'"ask"' in data:  # and not a heartbeat
                told[key.fd] = now()
    return list(told.values())


def receive_boards(path: str, count: int, channel: Channel) -> None:
    """Receiver: ``count`` mappings of one board, looked at in turn until all show the ask."""
    readers = [BoardReader(path) for _ in range(count)]
    channel.send("ready")
    while channel.recv() == "next":
        before = readers[0].number()
        channel.send("armed")
        waiting, told = readers, []
        while waiting:
            still = []
            for reader in waiting:
                if reader.number() == before:
                    still.append(reader)
                else:
                    told.append(now())
            waiting = still
        channel.send(told)


def receive_in_processes(path: str, count: int, channel: Channel) -> None:
    """Receiver: ``count`` processes, each blocked in a read of its own event stream."""
    results, write = os.pipe()
    children = []
    for _ in range(count):
        stream = _subscribe(path)
        child = os.fork()
        if child == 0:
            _report_arrivals(stream, write)
        stream.close()
        children.append(child)
    channel.send("ready")
    while channel.recv() == "next":
        channel.send("armed")
        channel.send([_RESULT.unpack(_exactly(results, _RESULT.size))[0] for _ in range(count)])
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _report_arrivals(stream: socket.socket, results: int) -> NoReturn:
    """The life of one process: the time of each ask goes into the pipe, in one write."""
    while True:
        if b'"ask"' in stream.recv(4096):
            os.write(results, _RESULT.pack(now()))


def _exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(fd, count - len(data))
    return data


async def measure(
    receiver: Callable[[str, int, Channel], None],
    path: str,
    ask: Callable[[], float],
    options: argparse.Namespace,
) -> list[float]:
    """Milliseconds from each ask to each arrival."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=receiver, args=(path, options.connections, theirs)
    )
    process.start()
    assert await asyncio.to_thread(ours.recv) == "ready"  # noqa: S101 - a benchmark
    # A thousand new connections are due a full collection (about 0.1 s, once): a daemon that
    # has been up for a while has had it.
    gc.collect()
    found: list[float] = []
    for number in range(options.warm_up + options.asks):
        ours.send("next")
        assert await asyncio.to_thread(ours.recv) == "armed"  # noqa: S101 - a benchmark
        await asyncio.sleep(0.01)  # until the receiver is really waiting
        start = ask()
        arrivals = await asyncio.to_thread(ours.recv)
        if number >= options.warm_up:
            found += [1000 * (arrival - start) for arrival in arrivals]
    ours.send("stop")
    await asyncio.to_thread(process.join)
    return found


def summary(found: list[float]) -> dict[str, float]:
    """p50, p99 and worst."""
    cuts = statistics.quantiles(found, n=100)
    return {
        "p50_ms": round(statistics.median(found), 3),
        "p99_ms": round(cuts[98], 3),
        "worst_ms": round(max(found), 3),
    }


async def bare(path: Path, options: argparse.Namespace) -> list[float]:
    """The floor: send() on 1,000 accepted sockets, one after the other."""
    line = json.dumps(EVENT).encode() + b"\n"
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(
        lambda _, writer: accepted.append(writer), path, backlog=4096
    )

    def ask() -> float:
        start = now()
        for writer in accepted:
            writer.write(line)
        return start

    found = await measure(receive_bare, str(path), ask, options)
    server.close()
    for writer in accepted:
        writer.close()
    return found


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All three, in the same run."""
    with tempfile.TemporaryDirectory(prefix="sw-") as folder:
        home = Path(folder)
        desk = BenchDesk(BoardWriter(home / "board"))
        server = ControlServer(cast(Desk, desk), path=home / "s.sock", mode=0o600)
        await server.start()
        streams = await measure(receive_streams, str(home / "s.sock"), desk.ask, options)
        boards = await measure(receive_boards, str(home / "board"), desk.ask, options)
        processes = await measure(receive_in_processes, str(home / "s.sock"), desk.ask, options)
        await server.close()
        floor = await bare(home / "bare.sock", options)
    rows = {
        "fanout board": summary(boards),
        "fanout stream": summary(streams),
        "fanout stream, 1 process each": summary(processes),
    }
    return [_row(name, found, summary(floor), options) for name, found in rows.items()]


def _row(
    name: str, ours: dict[str, float], floor: dict[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours["p99_ms"],
        "peer": floor["p99_ms"],
        "peer_name": "the same bytes to bare sockets",
        "ratio": round(ours["p99_ms"] / floor["p99_ms"], 3),
        "unit": "ms p99",
        "p50_ms": ours["p50_ms"],
        "worst_ms": ours["worst_ms"],
        "connections": options.connections,
        "asks": options.asks,
        "goal": GOAL,
        "met": ours["p99_ms"] <= GOAL,
    }


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description="fan-out of one ask")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--asks", type=int, default=50)
    parser.add_argument("--warm-up", type=int, default=5)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(run(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
