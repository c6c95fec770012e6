"""What background replication costs a training beside it: step time with and without.

A model with AdamW (2 GiB of state) trains on one core, without pause. In turns nothing else
happens, our replicator replicates the state (weight: background), s5cmd uploads it, and
rclone does. Steps that lie within such a turn count; the turn with nothing comes before each of
the others. The link is capped, as a network is: the server runs on the same cores, and what it
costs is in all figures alike.

    python -m benchmarks.slowdown [--rounds 5] [--mib 2048] [--link 250e6]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.support.child import Child
from benchmarks.support.ours import Moving, moving, seal_links
from benchmarks.support.peers import Rclone, S5cmd, Server
from benchmarks.support.rows import Row, parser_of, say
from benchmarks.support.shapes import MIB, change, scratch
from benchmarks.support.sink import Sink
from spotwatchd.errors import SpotwatchError

# Per cent of step time.
GOAL = 1.0
PEERS: dict[str, S5cmd | Rclone] = {"s5cmd": S5cmd(256, 8, 64), "rclone": Rclone()}


class Training(Child):
    """The process that trains; its steps are read as they come."""

    def __init__(self, mib: int, files: Path) -> None:
        """``files`` is where it saves its state once."""
        super().__init__("benchmarks.support.trainer", mib, files)
        self._steps: list[tuple[float, float]] = []

    def listen(self) -> None:
        """Wait until the state is saved, then note every step."""
        self.read()
        threading.Thread(target=self._note, daemon=True).start()

    def _note(self) -> None:
        try:
            while True:
                end, seconds = map(float, self.read().split())
                self._steps.append((end, seconds))
        except (SpotwatchError, ValueError, OSError):  # it ended
            return

    def during(self, action: Callable[[], object]) -> tuple[list[float], float]:
        """The seconds of the steps that lie within ``action``, and how long that took."""
        began = time.monotonic()
        action()
        over = time.monotonic()
        time.sleep(0.1)  # for the last line to come through the pipe
        inside = [took for end, took in self._steps if end - took >= began and end <= over]
        if not inside:
            raise SpotwatchError(
                "no step of the training lies within the upload",
                where=f"{over - began:.1f} s",
                remedy="a slower --link or a larger --mib",
            )
        return inside, over - began


class Ours:
    """Our replicator, given a checkpoint that it has not seen."""

    def __init__(self, mover: Moving, files: Path) -> None:
        """A replicator of low weight."""
        self._mover, self._files, self._step = mover, files, 0
        mover.weigh("background")

    def __call__(self) -> None:
        """Replicate."""
        self._step += 1
        self._mover.commit(seal_links(self._files, self._mover.checkpoints, self._step))


def measure(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Slowdown in per cent and seconds that it took, of each round of each way."""
    found: dict[str, list[tuple[float, float]]] = {}
    with (
        Sink(rate=options.link) as sink,
        scratch(options.mib * MIB) as home,
        Training(options.mib, home / "files") as training,
        moving(home, sink.store, sink.environment) as mover,
    ):
        training.listen()
        files, server = home / "files", Server(sink.endpoint, sink.environment)
        ways: dict[str, Callable[[], object]] = {"ours": Ours(mover, files)}
        for name, peer in PEERS.items():
            ways[name] = partial(peer.upload, server, files)
        for _ in range(options.rounds):
            for name, way in ways.items():
                change(files)
                alone, _ = training.during(lambda: time.sleep(options.alone))
                beside, seconds = training.during(way)
                slower = statistics.fmean(beside) / statistics.fmean(alone) - 1
                found.setdefault(name, []).append((100 * slower, seconds))
    return found


def row(found: dict[str, list[tuple[float, float]]], peer: str, link: float) -> Row:
    """Per cent that step time grows by while the state is on its way."""
    ours, theirs = ([slower for slower, _ in found[name]] for name in ("ours", peer))
    ours_median, theirs_median = statistics.median(ours), statistics.median(theirs)
    seconds = {name: statistics.median(took for _, took in found[name]) for name in ("ours", peer)}
    return {
        "name": f"slowdown of training beside an upload at {link / 1e6:.0f} MB/s, {peer}",
        "ours": round(ours_median, 2),
        "peer": round(theirs_median, 2),
        "peer_name": peer,
        "ratio": round(ours_median / theirs_median, 3) if theirs_median else None,
        "unit": "% of step time",
        "goal": f"< {GOAL:g} %",
        "met": ours_median < GOAL,
        "rounds": len(ours),
        "ours_range": f"{min(ours):.1f} - {max(ours):.1f}",
        "peer_range": f"{min(theirs):.1f} - {max(theirs):.1f}",
        "ours_seconds": round(seconds["ours"], 2),
        "peer_seconds": round(seconds[peer], 2),
    }


def main() -> int:
    """Run and print."""
    parser = parser_of("what background replication costs a training")
    parser.add_argument("--mib", type=int, default=2048, help="size of the state")
    parser.add_argument("--link", type=float, default=250e6, help="bytes per second")
    parser.add_argument("--alone", type=float, default=8.0, help="seconds of each turn alone")
    options = parser.parse_args()
    print("slowdown: training, replicating", file=sys.stderr)
    found = measure(options)
    print(json.dumps(say([row(found, peer, options.link) for peer in PEERS])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
