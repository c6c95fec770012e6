"""Rows of a benchmark: our figure, a peer's, their ratio, and the goal for it."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
ROUNDS = 5


def parser_of(description: str) -> argparse.ArgumentParser:
    """A command line with ``--rounds``, whose default ./scripts/bench may set."""
    made = argparse.ArgumentParser(description=description)
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
    return made


def faster(
    name: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, goal: float | None
) -> Row:
    """Seconds; the ratio says how many times the peer's speed ours is, ``goal`` the least."""
    ratio = statistics.median(peer) / statistics.median(ours)
    met = None if goal is None else ratio >= goal
    wanted = None if goal is None else f">= {goal:g} x the speed"
    return _row(name, ours, peer, peer_name, "s", (ratio, wanted, met))


def cheaper(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    unit: str,
    goal: float | None,
) -> Row:
    """Any cost; the ratio is ours / peer's, ``goal`` the most that it may be."""
    ratio = statistics.median(ours) / statistics.median(peer)
    met = None if goal is None else ratio <= goal
    wanted = None if goal is None else f"<= {goal:g} x"
    return _row(name, ours, peer, peer_name, unit, (ratio, wanted, met))


def below(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    unit: str,
    goal: float,
) -> Row:
    """Our figure itself, the worst of the rounds, must be below ``goal``."""
    row = cheaper(name, [max(ours)], peer, peer_name, unit, None)
    return {**row, "goal": f"< {goal:g} {unit}", "met": max(ours) < goal, "rounds": len(ours)}


def _row(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    unit: str,
    verdict: tuple[float, str | None, bool | None],
) -> Row:
    ratio, goal, met = verdict
    return {
        "name": name,
        "ours": round(statistics.median(ours), 3),
        "peer": round(statistics.median(peer), 3),
        "peer_name": peer_name,
        "ratio": round(ratio, 3),
        "unit": unit,
        "goal": goal,
        "met": met,
        "rounds": len(ours),
        "ours_range": _range(ours),
        "peer_range": _range(peer),
    }


def _range(found: Sequence[float]) -> str:
    return f"{min(found):.3g} - {max(found):.3g}"
