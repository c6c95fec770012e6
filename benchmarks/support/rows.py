"""Rows of a benchmark: our figure, a peer's, their ratio, and the goal for it."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
ROUNDS = 5


def parser_of(description: str) -> argparse.ArgumentParser:
    """A command line with ``--rounds``, whose default ./scripts/bench may set."""
    # A benchmark that is told to stop takes its processes and files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    made = argparse.ArgumentParser(description=description)
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
    return made


@dataclass(frozen=True)
class Pair:
    """The figures of the same rounds: ours, and the peer's."""

    ours: Sequence[float]
    peer: Sequence[float]
    peer_name: str
    unit: str = "s"

    @property
    def cost(self) -> float:
        """Ours / the peer's, of the medians."""
        return statistics.median(self.ours) / statistics.median(self.peer)


def faster(name: str, pair: Pair, goal: float | None = None) -> Row:
    """Seconds; the ratio says how many times the peer's speed ours is, ``goal`` the least."""
    ratio = 1 / pair.cost
    if goal is None:
        return _row(name, pair, ratio, None, None)
    return _row(name, pair, ratio, f">= {goal:g} x the speed", ratio >= goal)


def cheaper(name: str, pair: Pair, goal: float | None = None) -> Row:
    """Any cost; the ratio is ours / the peer's, ``goal`` the most that it may be."""
    if goal is None:
        return _row(name, pair, pair.cost, None, None)
    return _row(name, pair, pair.cost, f"<= {goal:g} x", pair.cost <= goal)


def below(name: str, pair: Pair, goal: float) -> Row:
    """Our figure itself, in the worst of the rounds, must be below ``goal``."""
    worst = max(pair.ours)
    row = _row(name, pair, pair.cost, f"< {goal:g} {pair.unit}", worst < goal)
    return {**row, "ours": round(worst, 3)}


def say(rows: Sequence[Row]) -> list[Row]:
    """Tell them on stderr as soon as they are known; the rows."""
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        figures = f"{row['ours']:g} : {row['peer']:g} {row['unit']} ({row['peer_name']})"
        print(f"  {row['name']}: {figures}, ratio {row['ratio']} {verdict}", file=sys.stderr)
    return list(rows)


def _row(name: str, pair: Pair, ratio: float, goal: str | None, met: bool | None) -> Row:
    return {
        "name": name,
        "ours": round(statistics.median(pair.ours), 3),
        "peer": round(statistics.median(pair.peer), 3),
        "peer_name": pair.peer_name,
        "ratio": round(ratio, 3),
        "unit": pair.unit,
        "goal": goal,
        "met": met,
        "rounds": len(pair.ours),
        "ours_range": _range(pair.ours),
        "peer_range": _range(pair.peer),
    }


def _range(found: Sequence[float]) -> str:
    return f"{min(found):.3g} - {max(found):.3g}"
