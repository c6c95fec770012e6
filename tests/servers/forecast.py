"""Random weathers, each a function of its seed."""

from __future__ import annotations

import random
from typing import get_args

from tests.servers.weather import Kind, Spell, Weather

# How often each kind is drawn; all others: 1.
_WEIGHTS: dict[str, float] = {"gone": 2, "slowdown": 2, "expired": 1.5, "late": 1.5, "lost": 1.5}
_OUTAGES: tuple[Kind, ...] = ("gone", "slowdown", "refuse500", "stall", "close", "reset", "expired")
_SORTS = ("data", "manifest", "head")
_OPERATIONS = ("put", "part", "begin", "complete", "get", "head")
KINDS: tuple[Kind, ...] = get_args(Kind)


def forecast(seed: int, deadline: float) -> Weather:
    """One to four spells; every fifth weather clears up just before the deadline."""
    draw = random.Random(seed)
    spells = [_spell(draw, deadline) for _ in range(draw.randint(1, 4))]
    if draw.random() < 0.2:
        kind = draw.choice(_OUTAGES)
        spells.insert(0, Spell(kind, 0.0, deadline - draw.uniform(0.5, 2.5)))
    return Weather(seed, tuple(_apart(spells)))


def _spell(draw: random.Random, deadline: float) -> Spell:
    kind = draw.choices(KINDS, [_WEIGHTS.get(kind, 1.0) for kind in KINDS])[0]
    begin, end, chance, attempts = _extent(draw, deadline)
    operations, sorts = _reach(draw)
    return Spell(kind, begin, end, operations, sorts, chance, attempts, _value(draw, kind))


def _extent(draw: random.Random, deadline: float) -> tuple[float, float, float, int]:
    """Begin, end, chance, attempts."""
    shape = draw.choices(("window", "flaky", "first", "for ever"), (5, 4, 3, 0.5))[0]
    if shape == "window":
        begin = draw.choice((0.0, draw.uniform(0.0, deadline / 2)))
        return begin, begin + draw.uniform(0.2, 0.6 * deadline), 1.0, 0
    if shape == "flaky":
        return 0.0, draw.uniform(0.3, 1.0) * deadline, draw.uniform(0.2, 0.7), 0
    if shape == "first":
        return 0.0, deadline, 1.0, draw.randint(1, 3)
    return draw.uniform(0.0, deadline / 2), deadline + 5.0, 1.0, 0


def _reach(draw: random.Random) -> tuple[frozenset[str], frozenset[str]]:
    """Operations and sorts; empty is all of them."""
    which = draw.random()
    if which < 0.5:
        return frozenset(), frozenset()
    if which < 0.8:
        return frozenset(), frozenset(draw.sample(_SORTS, draw.randint(1, 2)))
    return frozenset(draw.sample(_OPERATIONS, draw.randint(1, 3))), frozenset()


def _value(draw: random.Random, kind: Kind) -> float:
    match kind:
        case "delay":
            return draw.uniform(0.05, 0.9)
        case "late":
            return draw.uniform(0.2, 3.0)
        case "slow":
            return float(10 ** draw.uniform(4.5, 6.5))
        case "drip":
            return float(10 ** draw.uniform(1.5, 4.0))
        case _:
            return 0.0


def _apart(spells: list[Spell]) -> list[Spell]:
    """Nobody can be gone twice at once."""
    seen = False
    kept = []
    for spell in spells:
        if spell.kind != "gone" or not seen:
            kept.append(spell)
        seen = seen or spell.kind == "gone"
    return kept
