"""What a training step pays to learn whether it should save.

Ours: ``job.should_checkpoint()`` with a mapped board. Peer: ``requests.get`` of the notice
path, with a session, from a web server on this machine, which is kinder than the real one.
Both in the same run, interleaved, median of rounds. Prints one JSON object, times in ns.

    python benchmarks/should_checkpoint.py [--rounds 15]

With strace on the machine, ``syscalls`` says how many a million calls made (0).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from spotwatchd.client.identity import Identity
from spotwatchd.client.job import Job
from spotwatchd.client.registration import Registration, Standing
from spotwatchd.wire.board import BoardWriter

OUR_CALLS, PEER_CALLS = 200_000, 50
# The peer's server is a process of its own: in a thread it would share our interpreter.
SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class NotFound(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), NotFound)
print(server.server_port, flush=True)
server.serve_forever()
"""
TRACED_CALLS = 1_000_000
MARK_BEGIN, MARK_END = "/spotwatchd-begin", "/spotwatchd-end"


def make_job(directory: Path) -> Job:
    """A job that is registered: its board is mapped, as after connect() to a daemon."""
    BoardWriter(directory / "board").close()
    who = Identity("bench", directory, str(directory / "socket"), 0, 1, True, True)
    registration = Registration(who)
    registration.standing = Standing(str(directory / "board"), False, {})
    return Job(registration)


def per_call(call: Callable[[], object], count: int) -> float:
    """Nanoseconds per call, the loop included."""
    began = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - began) / count


def ours_per_call(job: Job, count: int) -> float:
    """As a training loop writes it, attribute lookup included."""
    began = time.perf_counter_ns()
    for _ in range(count):
        job.should_checkpoint()
    return (time.perf_counter_ns() - began) / count


def measure(rounds: int, directory: Path) -> dict[str, Any]:
    """The medians."""
    job, server = make_job(directory), subprocess.Popen([sys.executable, "-c", SERVER], stdout=-1)
    try:
        assert server.stdout is not None  # noqa: S101 - for the type checker
        port = int(server.stdout.readline())
        url = f"http://127.0.0.1:{port}/latest/meta-data/spot/instance-action"
        with requests.Session() as session:
            pairs = [
                (ours_per_call(job, OUR_CALLS), per_call(lambda: session.get(url), PEER_CALLS))
                for _ in range(rounds)
            ]
    finally:
        server.kill()
        server.communicate()
    ours, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "name": "should_checkpoint",
        "ours": round(ours, 1),
        "peer": round(peer),
        "peer_name": "requests.get per step, one session, local server",
        "ratio": round(ours / peer, 7),
        "unit": "ns",
    }


def traced(directory: Path) -> None:
    """What strace watches: a million calls between two marks."""
    job = make_job(directory)
    os.access(MARK_BEGIN, os.F_OK)
    for _ in range(TRACED_CALLS):
        job.should_checkpoint()
    os.access(MARK_END, os.F_OK)


def count_syscalls(directory: Path) -> int | None:
    """System calls of a million questions; None without strace, or where it may not trace."""
    if shutil.which("strace") is None:
        return None
    trace = directory / "trace"
    command = ["strace", "-f", "-o", str(trace), sys.executable, __file__]
    command += ["--traced", str(directory)]
    if subprocess.run(command, check=False, env=dict(os.environ)).returncode != 0:
        return None
    lines = trace.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if MARK_BEGIN in line)
    end = next(number for number, line in enumerate(lines) if MARK_END in line)
    return end - begin - 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="ns per should_checkpoint(), beside requests.get")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--traced", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.traced is not None:
        traced(options.traced)
        return
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        result = measure(options.rounds, Path(name))
        print(json.dumps(result | {"syscalls": count_syscalls(Path(other))}))


if __name__ == "__main__":
    main()
