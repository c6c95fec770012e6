"""One commit in bad weather, beside a client that only tries again (tests/servers/oracle.py)."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.core.head import Head
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import restore_to
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.wire.seal import sealed_name
from tests.servers.forecast import forecast
from tests.servers.oracle import Account, Oracle, TooLate
from tests.servers.stormproxy import StormProxy
from tests.servers.weather import Weather
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import JOB, Place, head_of, save

# Both clients wait so long for a silent server. The deadlines of storms are a tenth of a real
# one, so is this.
TIMEOUT = 1.0
KIB, MIB = 1 << 10, 1 << 20
Files = dict[str, bytes]


@dataclass(frozen=True)
class Sea:
    """Where storms take place.

    Attributes:
        port: of the store.
        bucket: there.
        access, secret: for it; also in the environment.
        base: an empty directory.
    """

    port: int
    bucket: str
    access: str
    secret: str
    base: Path

    def backend(self, endpoint: str, prefix: str) -> Backend:
        """A store below ``prefix``."""
        options = StoreOptions("", "us-east-1", connect_timeout=TIMEOUT, read_timeout=TIMEOUT)
        return open_backend(f"s3://{self.bucket}/{prefix}?endpoint={endpoint}", options)

    def calm_backend(self, prefix: str) -> Backend:
        """The same store, without the proxy and with more time."""
        endpoint = f"http://127.0.0.1:{self.port}"
        options = StoreOptions("", "us-east-1", read_timeout=20.0)
        return open_backend(f"s3://{self.bucket}/{prefix}?endpoint={endpoint}", options)


@dataclass
class Verdict:
    """What became of a storm. Times in seconds after it began; None: not done in time.

    Attributes:
        seed: of the storm.
        scenario: commit, owners or restore.
        deadline: seconds after the beginning.
        ours: when the commit returned.
        oracle: when the plain client was done.
        returned: when we came back, with or without success.
        said: what we said when we failed.
        hits: how often which kind of spell hit us.
        false: commits that are none.
        lost: committed checkpoints that cannot be restored any more, or rules that were broken.
    """

    seed: int
    scenario: str
    deadline: float
    ours: float | None = None
    oracle: float | None = None
    returned: float = 0.0
    said: str = ""
    hits: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing was told that is not so."""
        return not self.false and not self.lost

    def late(self, slack: float) -> bool:
        """Whether the plain client was done ``slack`` before the deadline, and we were not."""
        done = self.oracle is not None and self.oracle <= self.deadline - slack
        return done and self.ours is None


@dataclass(frozen=True)
class Plan:
    """A commit to be made in a weather; all of it follows from the seed."""

    seed: int
    deadline: float
    sizes: tuple[int, ...]
    weather: Weather

    def files(self, step: int) -> Files:
        """The checkpoint of ``step``."""
        draw = random.Random(self.seed * 1_000_003 + step)
        return {f"part-{n}.bin": draw.randbytes(size) for n, size in enumerate(self.sizes)}


def plan(seed: int) -> Plan:
    """The storm of this seed."""
    draw = random.Random(f"plan {seed}")
    deadline = draw.uniform(4.0, 9.0)
    shape = draw.choices(("few", "many", "large"), (4, 2, 3))[0]
    match shape:
        case "few":
            sizes = [draw.randint(1, 300 * KIB) for _ in range(draw.randint(1, 3))]
        case "many":
            sizes = [draw.randint(0, 20 * KIB) for _ in range(draw.randint(6, 12))]
        case _:
            sizes = [draw.randint(9 * MIB, 20 * MIB), draw.randint(1, 100 * KIB)]
    return Plan(seed, deadline, tuple(sizes), forecast(seed, deadline))


def ride(sea: Sea, storm: Plan) -> Verdict:
    """Commit in the storm, then look at what is there in calm weather."""
    verdict = Verdict(storm.seed, "commit", storm.deadline)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(StormProxy(sea.port))
        plain = stack.enter_context(StormProxy(sea.port))
        name = f"storm-{storm.seed}-{ours.port}"
        hands = _before(sea, ours, storm, name)
        rival = threading.Thread(target=_oracle, args=(sea, plain, storm, name, verdict))
        rival.start()
        committed = _commit(hands, ours, storm, verdict)
        rival.join()
        verdict.hits = ours.hits
        ours.calm()
        _after(sea, hands, storm, name, verdict, committed)
    return verdict


def _before(sea: Sea, proxy: StormProxy, storm: Plan, name: str) -> Hands:
    """A machine that has the job, and its first checkpoint committed."""
    place = Place(sea.base / name, proxy.endpoint, "a", lease_seconds=60.0)
    place.store = f"s3://{sea.bucket}/{name}?endpoint={proxy.endpoint}"
    hands = Hands(place, sea.backend(proxy.endpoint, name))
    hands.take()
    hands.commit_seal(save(place.checkpoints, 10, small(storm, 10)))
    return hands


def small(storm: Plan, step: int) -> Files:
    """A checkpoint that costs nothing."""
    return {"small.bin": f"{storm.seed} {step}".encode() * 50}


def _commit(hands: Hands, proxy: StormProxy, storm: Plan, verdict: Verdict) -> Seal | None:
    """Returns the seal if the commit was told to be one."""
    seal = save(hands.machine.checkpoints, 20, storm.files(20))
    proxy.begin(storm.weather)
    try:
        hands.custody.commit(seal, "notice", None, hands.limits(storm.deadline))
    except (SpotwatchError, OSError) as error:
        verdict.returned = proxy.age
        verdict.said = f"{type(error).__name__}: {error}"
        return None
    verdict.returned = proxy.age
    if verdict.returned <= storm.deadline:
        verdict.ours = verdict.returned
    return seal


def _oracle(sea: Sea, proxy: StormProxy, storm: Plan, name: str, verdict: Verdict) -> None:
    account = Account(proxy.endpoint, sea.bucket, sea.access, sea.secret, TIMEOUT)
    proxy.begin(storm.weather)
    client = Oracle(account, time.monotonic() + storm.deadline)
    folder = f"oracle-{name}/{JOB}/checkpoints/00000001-000002-000000000020"
    try:
        for file, body in storm.files(20).items():
            client.put(f"{folder}/{file}", body)
        client.put(f"{folder}/MANIFEST.json", b"{}" * 200)
        client.put(f"oracle-{name}/{JOB}/head.json", b"{}" * 300)
    except TooLate:
        return
    verdict.oracle = proxy.age


def _after(
    sea: Sea, hands: Hands, storm: Plan, name: str, verdict: Verdict, committed: Seal | None
) -> None:
    """In calm weather: what is listed is there, the owner goes on, another machine follows."""
    backend = sea.calm_backend(name)
    known = {10: small(storm, 10), 20: storm.files(20), 30: small(storm, 30)}
    scratch = sea.base / name / "check"
    listed = audit(backend, known, scratch, verdict)
    if 10 not in listed:
        verdict.lost.append(f"step 10 was committed before, listed are {listed}")
    if committed and 20 not in listed:
        verdict.false.append(f"step 20 was told to be committed, listed are {listed}")
    if verdict.ours is None and 20 in listed:
        verdict.said = f"(it is committed all the same) {verdict.said}"
    try:
        hands.commit_seal(save(hands.machine.checkpoints, 30, known[30]))
        hands.sweeper.run()
        hands.release()
        _follow(sea, name, known, verdict)
    except SpotwatchError as error:
        verdict.lost.append(f"in calm weather: {type(error).__name__}: {error}")
    listed = audit(backend, {30: known[30]}, scratch, verdict)
    if not {10, 30} <= set(listed) or (committed and 20 not in listed):
        verdict.lost.append(f"at the end only {listed} are listed")


def _follow(sea: Sea, name: str, known: dict[int, Files], verdict: Verdict) -> None:
    """Another machine takes the job and has the newest checkpoint, byte for byte."""
    place = Place(sea.base / name, f"s3://{sea.bucket}/{name}", "b", lease_seconds=60.0)
    other = Hands(place, sea.calm_backend(name))
    restored = other.take().restored
    if restored is None or restored.step != 30:
        verdict.lost.append(f"another machine resumes from {restored}")
    elif found(place.checkpoints / restored.path) != known[30]:
        verdict.lost.append("another machine has other bytes")
    other.release()


def audit(backend: Backend, known: dict[int, Files], scratch: Path, verdict: Verdict) -> list[int]:
    """The steps that head lists; those that are known are restored and compared."""
    head: Head = head_of(backend)
    listed = [entry.id.step for entry in head.checkpoints]
    if head.quarantine:
        verdict.lost.append(f"quarantined: {head.quarantine}")
    for step in {*listed} & {*known}:
        try:
            restore_to(backend, JOB, scratch, step)
        except SpotwatchError as error:
            verdict.false.append(f"step {step} is listed and cannot be restored: {error}")
            continue
        if found(scratch / sealed_name(step)) != known[step]:
            verdict.false.append(f"step {step} is listed and has other bytes")
    return listed


def found(directory: Path) -> Files:
    """The files that are there."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
