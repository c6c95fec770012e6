"""A machine that takes a job and its checkpoint out of the store in bad weather."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass, field

from spotwatchd.errors import SpotwatchError
from spotwatchd.store.outcomes import Taken
from tests.servers.forecast import forecast
from tests.servers.weather import Weather
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.sea import (
    Files,
    Sea,
    Verdict,
    commit,
    found,
    random_files,
    small,
    take,
)


@dataclass(frozen=True)
class Rescue:
    """A checkpoint to be restored in a weather of ``length`` seconds."""

    seed: int
    length: float
    weather: Weather
    files: Files = field(repr=False)


def random_rescue(seed: int) -> Rescue:
    """The one of this seed."""
    length = random.Random(f"rescue {seed}").uniform(2.0, 6.0)
    return Rescue(seed, length, forecast(seed, length), random_files(seed, 20))


def rescue(sea: Sea, storm: Rescue) -> Verdict:
    """Two checkpoints; another machine must get the newer one, whatever the weather says of it."""
    verdict = Verdict(storm.seed, "restore", storm.length)
    voyage = sea.voyage()
    known = {10: small(storm.seed, 10), 20: storm.files}
    before = voyage.machine("a", sea.calm, lease_seconds=60.0)
    take(before)
    for step, files in known.items():
        commit(before, step, files)
    before.release()
    with sea.lane() as lane:
        hands = voyage.machine("b", lane.backend, lease_seconds=60.0)
        lane.proxy.begin(storm.weather)
        taken = _insist(hands, storm, verdict)
        verdict.ours = verdict.returned = lane.proxy.age
        verdict.hits = lane.proxy.hits
        lane.proxy.calm()
        if taken.restored is None or taken.restored.step != 20:
            verdict.lost.append(f"restored is {taken.restored}: {hands.heard.text}")
        elif found(hands.machine.checkpoints / taken.restored.path) != storm.files:
            verdict.false.append("restored are other bytes")
        hands.release()
    if (listed := voyage.audit(known, verdict)) != [10, 20]:
        verdict.lost.append(f"listed are {listed}")
    shutil.rmtree(voyage.base)
    return verdict


def _insist(hands: Hands, storm: Rescue, verdict: Verdict) -> Taken:
    """A daemon asks again after a refusal: credentials may be renewed, clocks set."""
    end = time.monotonic() + storm.length + 30.0
    while True:
        try:
            return hands.custody.take(hands.limits(storm.length + 30.0), lambda _: None)
        except (SpotwatchError, OSError) as error:
            verdict.said = f"{type(error).__name__}: {error}".replace("\n", " ")
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
