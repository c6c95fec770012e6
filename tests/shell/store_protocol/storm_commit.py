"""One commit in bad weather, beside a client that only tries again (tests/servers/oracle.py)."""

from __future__ import annotations

import random
import shutil
import threading
import time
from dataclasses import dataclass, field

from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from tests.servers.forecast import forecast
from tests.servers.oracle import Account, Oracle, TooLate
from tests.servers.seaweed import ACCESS, SECRET
from tests.servers.stormproxy import StormProxy
from tests.servers.weather import Weather
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import save
from tests.shell.store_protocol.sea import (
    TIMEOUT,
    Files,
    Lane,
    Sea,
    Verdict,
    Voyage,
    commit,
    found,
    random_files,
    small,
    take,
)


@dataclass(frozen=True)
class Commit:
    """A commit to be made in a weather, ``deadline`` seconds after that begins."""

    seed: int
    deadline: float
    weather: Weather
    files: Files = field(repr=False)


def random_commit(seed: int) -> Commit:
    """The one of this seed."""
    deadline = random.Random(f"commit {seed}").uniform(4.0, 9.0)
    return Commit(seed, deadline, forecast(seed, deadline), random_files(seed, 20))


def ride(sea: Sea, storm: Commit) -> Verdict:
    """Commit in the storm, then look at what is there in calm weather."""
    verdict = Verdict(storm.seed, "commit", storm.deadline)
    voyage = sea.voyage()
    known = {10: small(storm.seed, 10), 20: storm.files, 30: small(storm.seed, 30)}
    with sea.lane() as lane:
        hands = voyage.machine("a", lane.backend, lease_seconds=60.0)
        take(hands)
        commit(hands, 10, known[10])
        told = _race(sea, voyage, lane, hands, storm, verdict)
        lane.proxy.calm()
        listed = voyage.audit(known, verdict)
        _judge(listed, told, verdict)
        _go_on(voyage, hands, known, verdict)
    _judge(voyage.audit({30: known[30]}, verdict), told, verdict)
    shutil.rmtree(voyage.base)
    return verdict


def _race(
    sea: Sea, voyage: Voyage, lane: Lane, hands: Hands, storm: Commit, verdict: Verdict
) -> bool:
    """Both commit at the same time. Returns whether we were told that ours is one."""
    folder = f"oracle/{voyage.job}"
    rival = threading.Thread(target=_plain, args=(sea, lane.other, folder, storm, verdict))
    rival.start()
    try:
        return _ours(hands, lane.proxy, storm, verdict)
    finally:
        rival.join()


def _ours(hands: Hands, proxy: StormProxy, storm: Commit, verdict: Verdict) -> bool:
    seal: Seal = save(hands.machine.checkpoints, 20, storm.files)
    proxy.begin(storm.weather)
    told = False
    try:
        hands.custody.commit(seal, "notice", None, hands.limits(storm.deadline))
        told = True
    except (SpotwatchError, OSError) as error:
        verdict.said = f"{type(error).__name__}: {error}".replace("\n", " ")
    verdict.returned = proxy.age
    if told and verdict.returned <= storm.deadline:
        verdict.ours = verdict.returned
    verdict.hits = proxy.hits
    return told


def _plain(sea: Sea, proxy: StormProxy, folder: str, storm: Commit, verdict: Verdict) -> None:
    account = Account(proxy.endpoint, sea.bucket, ACCESS, SECRET, TIMEOUT)
    proxy.begin(storm.weather)
    client = Oracle(account, time.monotonic() + storm.deadline)
    checkpoint = f"{folder}/checkpoints/00000001-000002-000000000020"
    try:
        for name, body in storm.files.items():
            client.put(f"{checkpoint}/{name}", body)
        client.put(f"{checkpoint}/MANIFEST.json", b"{}" * 200)
        client.put(f"{folder}/head.json", b"{}" * 300)
    except TooLate:
        return
    verdict.oracle = proxy.age


def _judge(listed: list[int], told: bool, verdict: Verdict) -> None:
    if 10 not in listed:
        verdict.lost.append(f"step 10 was committed before the storm; listed are {listed}")
    if told and 20 not in listed:
        verdict.false.append(f"step 20 was told to be committed; listed are {listed}")
    verdict.listed = verdict.ours is None and 20 in listed


def _go_on(voyage: Voyage, hands: Hands, known: dict[int, Files], verdict: Verdict) -> None:
    """In calm weather the owner commits the next one, and another machine follows."""
    try:
        commit(hands, 30, known[30])
        hands.sweeper.run()
        hands.release()
        other = voyage.machine("b", voyage.sea.calm, lease_seconds=60.0)
        restored = take(other).restored
        other.release()
    except (SpotwatchError, OSError) as error:
        verdict.lost.append(f"in calm weather: {type(error).__name__}: {error}")
        return
    if restored is None or restored.step != 30:
        verdict.lost.append(f"another machine resumes from {restored}")
    elif found(other.machine.checkpoints / restored.path) != known[30]:
        verdict.lost.append("another machine has other bytes")
