"""Sealed -> committed, beside s5cmd: three shapes of checkpoint, http and https.

Ours is a warm process that owns the job, as a replicator is when the ask comes: timed are the
checksums, the upload, the manifest and head, all verified by the store. s5cmd is a command line:
its start is included (``start`` says what that is), and it verifies nothing. Its settings are
the best of those tried at the beginning. rclone is there for information.

Prints a list of rows.

    python -m benchmarks.upload [--rounds 5] [--shapes 0 1 2] [--no-tls]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.support.measure import Took, command, seconds
from benchmarks.support.ours import Committer
from benchmarks.support.peers import LARGE, MANY, Rclone, S5cmd, Server, best, program
from benchmarks.support.rows import Pair, Row, below, cheaper, faster, parser_of, say
from benchmarks.support.shapes import SHAPES, SMALL, Shape, make, scratch
from benchmarks.support.sink import Sink

# Goals: speed beside s5cmd's by shape; CPU at most this part of its; memory, MiB.
FAST, FAST_TLS, FAST_SMALL = 2.0, 1.7, 1.0
CPU = 0.6
RSS = 200.0


@dataclass
class Series:
    """What each round found."""

    ours: list[Took] = field(default_factory=list)
    s5cmd: list[Took] = field(default_factory=list)
    rclone: list[Took] = field(default_factory=list)


def start_of(server: Server) -> float:
    """Seconds that s5cmd takes to start, without any request."""
    argv = [program("s5cmd"), "version"]
    return statistics.median(command(argv, server.environment).seconds for _ in range(5))


def measure(sink: Sink, shape: Shape, home: Path, rounds: int) -> tuple[S5cmd, Series]:
    """Interleaved rounds of one shape."""
    server, series = Server(sink.endpoint, sink.environment), Series()
    files = home / "files"
    make(shape, files)
    peer = best(MANY if shape.files > 100 else LARGE, server, files)
    with Committer(home / "machine", sink.store, sink.environment) as committer:
        committer.commit(files)  # the first of a size is no round: buffers grow once
        for _ in range(rounds):
            series.ours.append(committer.commit(files))
            series.s5cmd.append(peer.upload(server, files))
            series.rclone.append(Rclone().upload(server, files))
    return peer, series


def rows_of(name: str, peer: S5cmd, series: Series, goal: float) -> list[Row]:
    """Speed, CPU and memory."""
    ours, s5cmd = series.ours, series.s5cmd
    cpu = Pair([t.cpu for t in ours], [t.cpu for t in s5cmd], peer.name, "CPU s")
    memory = Pair([t.rss for t in ours], [t.rss for t in s5cmd], peer.name, "MiB")
    rclone = Pair(seconds(ours), seconds(series.rclone), Rclone().name)
    return [
        faster(name, Pair(seconds(ours), seconds(s5cmd), peer.name), goal),
        cheaper(f"{name}, CPU", cpu, CPU),
        below(f"{name}, memory", memory, RSS),
        faster(f"{name}, rclone", rclone),
    ]


def goal_of(shape: Shape, *, tls: bool) -> float:
    """How many times s5cmd's speed."""
    if shape is SMALL:
        return FAST_SMALL
    return FAST_TLS if tls else FAST


def run(options: argparse.Namespace) -> list[Row]:
    """All shapes, http and https."""
    rows: list[Row] = []
    for tls in (False, True) if options.tls else (False,):
        for shape in (SHAPES[number] for number in options.shapes):
            name = f"upload {shape.name}{' TLS' if tls else ''}"
            print(f"upload: {name}", file=sys.stderr)
            with Sink(tls=tls) as sink, scratch(shape.total) as home:
                start = start_of(Server(sink.endpoint, sink.environment))
                peer, series = measure(sink, shape, home, options.rounds)
            found = rows_of(name, peer, series, goal_of(shape, tls=tls))
            found[0]["peer_start"] = round(start, 3)
            rows += say(found)
    return rows


def arguments() -> Any:
    """The command line."""
    parser = parser_of("sealed -> committed, beside s5cmd")
    parser.add_argument("--shapes", type=int, nargs="+", default=list(range(len(SHAPES))))
    parser.add_argument("--no-tls", dest="tls", action="store_false")
    return parser.parse_args()


def main() -> int:
    """Run and print."""
    print(json.dumps(run(arguments())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
