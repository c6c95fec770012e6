"""Asked -> committed while the checkpoint is still being written, beside save-then-upload.

A warm process with 2 GiB of state saves it with torch.save below the checkpoint directory of a
job whose replicator runs; the commit is asked for when it is sealed. The link is capped at half,
once and twice the speed of torch.save; and the same beside a writer of 400 MB/s, which leaves
cores free where torch.save into memory, our sums and the server share two of them. A disk of 125
MB/s (the default of EBS gp3) is emulated by a writer that keeps to that rate. Files are in memory
in all cases.

The peer of the first row of each case is the lower bound: the slower one of writing alone and
uploading alone, both measured in the same rounds. That of the second row does one after the
other, with s5cmd.

    python -m benchmarks.growing [--rounds 5] [--mib 2048] [--cases below disk ...]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.support.child import Child
from benchmarks.support.ours import Moving, moving, rename_sealed
from benchmarks.support.peers import S5cmd, Server
from benchmarks.support.rows import Pair, Row, cheaper, faster, parser_of, say
from benchmarks.support.shapes import MIB, scratch
from benchmarks.support.sink import Sink
from spotwatchd.wire.seal import TEMPORARY_PREFIX, sealed_name

GOAL = 1.1
DISK = 125e6
CALM = 400e6
# Speed of writing (None: torch.save's), and the link as a multiple of it. For the slow disk a
# link that is no limit.
CASES: dict[str, tuple[float | None, float]] = {
    "below": (None, 0.5),
    "equal": (None, 1.0),
    "above": (None, 2.0),
    "calm-below": (CALM, 0.5),
    "calm-equal": (CALM, 1.0),
    "calm-above": (CALM, 2.0),
    "disk": (DISK, 4.0),
}
PEER = S5cmd(256, 8, 64)


@dataclass
class Series:
    """Seconds of each round."""

    write: list[float] = field(default_factory=list)
    upload: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    one_after_the_other: list[float] = field(default_factory=list)


class Writer(Child):
    """The process with the state."""

    def __init__(self, mib: int, rate: float | None) -> None:
        """``rate``: bytes per second, or None for torch.save."""
        super().__init__("benchmarks.support.writer", mib, *([] if rate is None else [rate]))

    def ready(self) -> None:
        """Wait until the state is another one than at the last write."""
        self.read()

    def write(self, folder: Path) -> float:
        """Write the state into a new folder; seconds."""
        folder.mkdir()
        return float(self.ask(str(folder / "model.pt")))


class Bench:
    """One case: a writer, a link, a replicator, a place for files."""

    def __init__(self, writer: Writer, mover: Moving, server: Server, home: Path) -> None:
        """All of them running."""
        self._writer, self._mover, self._server, self._home = writer, mover, server, home
        self._step = 0

    def round(self, series: Series) -> None:
        """Each way once."""
        self._alone(series)
        series.ours.append(self._while_it_grows())
        series.one_after_the_other.append(self._one_after_the_other())

    def _alone(self, series: Series) -> None:
        folder = self._home / "aside"
        self._writer.ready()
        series.write.append(self._writer.write(folder))
        self._step += 1
        seal = rename_sealed(folder, self._mover.checkpoints, self._step)
        series.upload.append(self._mover.commit(seal))
        self._forget()

    def _while_it_grows(self) -> float:
        self._step += 1
        folder = self._mover.checkpoints / temporary_name(self._step)
        self._writer.ready()
        began = time.monotonic()
        self._writer.write(folder)
        self._mover.commit(rename_sealed(folder, self._mover.checkpoints, self._step))
        elapsed = time.monotonic() - began
        self._forget()
        return elapsed

    def _one_after_the_other(self) -> float:
        folder = self._home / "aside"
        self._writer.ready()
        began = time.monotonic()
        self._writer.write(folder)
        PEER.upload(self._server, folder)
        elapsed = time.monotonic() - began
        shutil.rmtree(folder)
        return elapsed

    def _forget(self) -> None:
        shutil.rmtree(self._mover.checkpoints / sealed_name(self._step))


def temporary_name(step: int) -> str:
    """What a checkpoint is called while it is written: the name that the client gives it."""
    return f"{TEMPORARY_PREFIX}{sealed_name(step)}-bench"


def torch_speed(mib: int) -> float:
    """Bytes per second of torch.save alone, the best of some."""
    times = []
    with scratch(mib * MIB) as home, Writer(mib, None) as writer:
        for _ in range(4):
            writer.ready()
            times.append(writer.write(home / "aside"))
            shutil.rmtree(home / "aside")
    return mib * MIB / min(times)


def case(name: str, saving: float, options: argparse.Namespace) -> list[Row]:
    """All rounds of one case. ``saving``: the speed of torch.save, bytes per second."""
    rate, multiple = CASES[name]
    speed = rate or saving
    link = multiple * speed
    series = Series()
    with (
        Sink(rate=link) as sink,
        scratch(2 * options.mib * MIB) as home,
        moving(home, sink.store, sink.environment) as mover,
        Writer(options.mib, rate) as writer,
    ):
        mover.weigh("urgent")
        bench = Bench(writer, mover, Server(sink.endpoint, sink.environment), home)
        for _ in range(options.rounds):
            bench.round(series)
    what = f"{'a writer' if rate else 'torch.save'} at {speed / 1e6:.0f} MB/s"
    return rows_of(f"growing, {what}, link {link / 1e6:.0f} MB/s", name, series)


def rows_of(name: str, key: str, series: Series) -> list[Row]:
    """Beside the lower bound, and beside one after the other."""
    alone = {"write": series.write, "upload": series.upload}
    slower = max(alone, key=lambda each: statistics.median(alone[each]))
    bound = Pair(series.ours, alone[slower], f"the {slower} alone")
    sequence = Pair(series.ours, series.one_after_the_other, "save, then s5cmd")
    figures = {each: round(statistics.median(alone[each]), 3) for each in alone}
    return [
        {**cheaper(name, bound, GOAL), "case": key, **figures},
        {**faster(f"{name}, in sequence", sequence), "case": key, **figures},
    ]


def main() -> int:
    """Run and print."""
    parser = parser_of("asked -> committed while the file grows")
    parser.add_argument("--mib", type=int, default=2048, help="size of the state")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    rows: list[Row] = []
    saving = torch_speed(options.mib)
    for name in options.cases:
        print(f"growing: link {name}", file=sys.stderr)
        rows += say(case(name, saving, options))
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
