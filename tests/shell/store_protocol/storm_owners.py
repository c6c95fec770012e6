"""Two machines, one job: the first is being cut off while the second wants to take over."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from dataclasses import dataclass, field

from spotwatchd.errors import LeaseLost, SpotwatchError, StoreError
from spotwatchd.store.outcomes import Taken
from tests.servers.forecast import forecast
from tests.servers.weather import Weather
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import save
from tests.shell.store_protocol.sea import (
    CALM_SECONDS,
    Files,
    Lane,
    Sea,
    Verdict,
    Voyage,
    commit,
    small,
    take,
)

# Short, so that it runs out in a storm.
LEASE = 2.0


@dataclass(frozen=True)
class Takeover:
    """The first machine is in ``weather``; the second wants the job after ``wish`` seconds."""

    seed: int
    length: float
    wish: float
    weather: Weather
    second: Weather


def random_takeover(seed: int) -> Takeover:
    """The one of this seed. Every other second machine has a weather of its own."""
    draw = random.Random(f"takeover {seed}")
    length = draw.uniform(4.0, 8.0)
    second = forecast(seed + 1, length / 2) if draw.random() < 0.5 else Weather(0, ())
    return Takeover(seed, length, draw.uniform(0.0, 2.0), forecast(seed, length), second)


@dataclass
class First:
    """The machine that is being cut off: commits one checkpoint after the other.

    Attributes:
        told: steps that it believes to have committed.
        since: steps that it believes so although it began them when the job was another's.
        crash: an error that is none of ours.
    """

    hands: Hands
    seed: int
    gone: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    told: list[int] = field(default_factory=list)
    since: list[int] = field(default_factory=list)
    step: int = 10
    said: str = ""
    crash: str = ""

    def commit(self, seconds: float = 2.0) -> None:
        """The next one. Raises LeaseLost and all else."""
        was_gone = self.gone.is_set()
        self.step += 1
        files = small(self.seed, self.step)
        seal = save(self.hands.machine.checkpoints, self.step, files)
        self.hands.custody.commit(seal, "periodic", None, self.hands.limits(seconds))
        self.told.append(self.step)
        if was_gone:
            self.since.append(self.step)

    def work(self) -> None:
        """Until it is over or the job is lost."""
        while not self.over.wait(0.1):
            try:
                self.commit()
            except LeaseLost:
                return
            except (SpotwatchError, OSError) as error:
                self.said = str(error)
            except Exception as error:  # noqa: BLE001 - told at the end
                self.crash = f"{type(error).__name__}: {error}"
                return

    def renew(self) -> None:
        """As the replicator does."""
        while not self.over.wait(LEASE / 4):
            with contextlib.suppress(StoreError, LeaseLost):
                self.hands.custody.leasing.renew()


def take_over(sea: Sea, storm: Takeover) -> Verdict:
    """Both at work until the second one has the job; then ask who believes what."""
    verdict = Verdict(storm.seed, "owners", storm.length)
    voyage = sea.voyage()
    with sea.lane() as lane:
        hands = voyage.machine("a", lane.backend, lease_seconds=LEASE)
        take(hands)
        first = First(hands, storm.seed)
        first.commit(CALM_SECONDS)
        lane.proxy.begin(storm.weather)
        taken, second = _both(voyage, first, lane, storm, verdict)
        verdict.hits = lane.proxy.hits
        lane.proxy.calm()
        lane.other.calm()
        _ask_first(first, verdict)
        _ask_second(second, taken, first, verdict)
    _ask_head(voyage, first, taken, verdict)
    shutil.rmtree(voyage.base)
    return verdict


def _both(
    voyage: Voyage, first: First, lane: Lane, storm: Takeover, verdict: Verdict
) -> tuple[Taken, Hands]:
    threads = [threading.Thread(target=body) for body in (first.work, first.renew)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(storm.wish)
        second = voyage.machine("b", lane.rival, lease_seconds=LEASE)
        lane.other.begin(storm.second)
        stopper = threading.Timer(storm.length, first.over.set)
        stopper.start()
        taken = _insist(second, verdict)
        verdict.ours = verdict.returned = lane.other.age
        first.gone.set()
        if first.hands.custody.leasing.valid():
            verdict.lost.append("two machines hold a valid lease")
        stopper.cancel()
        return taken, second
    finally:
        time.sleep(0.3)
        first.over.set()
        for thread in threads:
            thread.join()


def _insist(second: Hands, verdict: Verdict) -> Taken:
    """A daemon asks again after a refusal: credentials may be renewed, clocks set."""
    end = time.monotonic() + 40.0
    while True:
        try:
            return second.custody.take(second.limits(40.0), lambda _: None)
        except StoreError as error:
            verdict.said = str(error)
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def _ask_first(first: First, verdict: Verdict) -> None:
    """In calm weather it learns that the job is another's."""
    if first.crash:
        verdict.lost.append(f"the first machine fails: {first.crash}")
    if first.since:
        verdict.lost.append(f"committed although another machine had the job: {first.since}")
    try:
        first.commit(CALM_SECONDS)
        verdict.lost.append("the first machine still commits")
    except LeaseLost:
        pass


def _ask_second(second: Hands, taken: Taken, first: First, verdict: Verdict) -> None:
    newest = max(first.told)
    if taken.restored is None or taken.restored.step < newest:
        verdict.lost.append(f"step {newest} was committed, resumed is {taken.restored}")
    try:
        commit(second, 1000, small(first.seed, 1000))
    except (SpotwatchError, OSError) as error:
        verdict.lost.append(f"the second machine cannot commit: {error}")


def _ask_head(voyage: Voyage, first: First, taken: Taken, verdict: Verdict) -> None:
    known: dict[int, Files] = {
        step: small(first.seed, step) for step in (*range(10, first.step + 1), 1000)
    }
    listed = voyage.audit(known, verdict)
    missing = {*first.told, 1000} - {*listed}
    if missing:
        verdict.false.append(f"told to be committed, not listed: {sorted(missing)}")
    head = voyage.head()
    ids = [entry.id for entry in head.checkpoints]
    if ids != sorted(ids) or head.generation != taken.generation or taken.generation < 2:
        verdict.lost.append(f"generation {head.generation}, taken {taken.generation}, ids {ids}")
