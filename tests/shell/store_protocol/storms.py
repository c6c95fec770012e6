"""Any storm by its number."""

from __future__ import annotations

import traceback

from tests.shell.store_protocol.sea import Sea, Verdict
from tests.shell.store_protocol.storm_commit import random_commit, ride
from tests.shell.store_protocol.storm_owners import random_takeover, take_over
from tests.shell.store_protocol.storm_restore import random_rescue, rescue

SCENARIOS = ("commit", "owners", "restore")


def scenario(seed: int) -> str:
    """Seven of ten are commits."""
    return {3: "owners", 6: "restore", 9: ("owners", "restore")[seed // 10 % 2]}.get(
        seed % 10, "commit"
    )


def storm(sea: Sea, seed: int, which: str = "") -> Verdict:
    """Live through the one of this seed. An error that is none of ours is a broken promise."""
    which = which or scenario(seed)
    try:
        return _storm(sea, seed, which)
    except Exception as error:  # noqa: BLE001 - the other storms go on
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frames))
        said = f"{type(error).__name__}: {error} ({where})"
        return Verdict(seed, which, 0.0, lost=[said.replace("\n", " ")])


def _storm(sea: Sea, seed: int, which: str) -> Verdict:
    match which:
        case "owners":
            return take_over(sea, random_takeover(seed))
        case "restore":
            return rescue(sea, random_rescue(seed))
        case _:
            return ride(sea, random_commit(seed))
