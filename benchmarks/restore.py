"""Restore to verified files, beside s5cmd's download, which verifies nothing: three shapes.

Both fetch the same objects from the same server, which has them in memory, and write to memory.
Ours is a warm process, as a replicator is that waits for a lease; s5cmd is a command line, its
start included, with the best of some settings. The first restore is compared with the original.

    python -m benchmarks.restore [--rounds 5] [--shapes 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.support.child import Child
from benchmarks.support.measure import Took, seconds
from benchmarks.support.ours import Committer
from benchmarks.support.peers import LARGE, MANY, S5cmd, Server
from benchmarks.support.rows import Pair, Row, below, cheaper, faster, parser_of, say
from benchmarks.support.shapes import SHAPES, Shape, make, scratch
from benchmarks.support.sink import Sink
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.checksum import crc64nvme_of_file

GOAL = 1.0
RSS = 200.0


def sums(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and checksum of each file in ``folder``."""
    return {path.name: crc64nvme_of_file(path) for path in folder.iterdir()}


@contextmanager
def stored(shape: Shape, sink: Sink, home: Path) -> Iterator[tuple[Child, str]]:
    """Commit a checkpoint and forget its files; a process to restore it, and its prefix."""
    files = home / "files"
    make(shape, files)
    with Committer(home / "machine", sink.store, sink.environment) as committer:
        committer.commit(files)
        job = committer.place.job_path()
    original = sums(files)
    shutil.rmtree(files)
    shutil.rmtree(committer.place.checkpoints)
    checkpoint, environment = committer.checkpoint, sink.environment
    with Child("benchmarks.support.restorer", job, checkpoint, environment=environment) as restorer:
        restorer.read()
        restore(restorer, home / "first", original)
        yield restorer, committer.prefix


def restore(
    restorer: Child, folder: Path, original: dict[str, tuple[int, int]] | None = None
) -> Took:
    """Restore into a new folder, gone afterwards. Raises SpotwatchError."""
    folder.mkdir()
    took = Took(**json.loads(restorer.ask(str(folder))))
    if original is not None and sums(next(folder.glob("step-*"))) != original:
        raise SpotwatchError("what was restored is not what was committed", where=str(folder))
    shutil.rmtree(folder)
    return took


def download(peer: S5cmd, server: Server, prefix: str, folder: Path) -> Took:
    """Download into a new folder, gone afterwards."""
    folder.mkdir()
    took = peer.download(server, prefix, folder)
    shutil.rmtree(folder)
    return took


def best(candidates: tuple[S5cmd, ...], server: Server, prefix: str, home: Path) -> S5cmd:
    """The fastest of one download each."""
    times = {each: download(each, server, prefix, home / "try").seconds for each in candidates}
    return min(times, key=lambda each: times[each])


def measure(shape: Shape, rounds: int) -> list[Row]:
    """Interleaved rounds of one shape."""
    ours, theirs = [], []
    with (
        Sink(keep=True) as sink,
        scratch(2 * shape.total) as home,
        stored(shape, sink, home) as (restorer, prefix),
    ):
        server = Server(sink.endpoint, sink.environment)
        peer = best(MANY if shape.files > 100 else LARGE, server, prefix, home)
        for _ in range(rounds):
            ours.append(restore(restorer, home / "ours"))
            theirs.append(download(peer, server, prefix, home / "theirs"))
    name = f"restore {shape.name}"
    cpu = Pair([t.cpu for t in ours], [t.cpu for t in theirs], peer.name, "CPU s")
    memory = Pair([t.rss for t in ours], [t.rss for t in theirs], peer.name, "MiB")
    return [
        faster(name, Pair(seconds(ours), seconds(theirs), peer.name), GOAL),
        cheaper(f"{name}, CPU", cpu),
        below(f"{name}, memory", memory, RSS),
    ]


def main() -> int:
    """Run and print."""
    parser = parser_of("restore to verified files, beside s5cmd")
    parser.add_argument("--shapes", type=int, nargs="+", default=list(range(len(SHAPES))))
    options: argparse.Namespace = parser.parse_args()
    rows: list[Row] = []
    for shape in (SHAPES[number] for number in options.shapes):
        print(f"restore: {shape.name}", file=sys.stderr)
        rows += say(measure(shape, options.rounds))
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
