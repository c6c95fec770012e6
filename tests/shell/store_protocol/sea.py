"""Where storms take place: a real store, proxies before it, machines beside it, and the verdict."""

from __future__ import annotations

import contextlib
import functools
import queue
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spotwatchd.core.head import Head
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import read_head
from spotwatchd.store.jobs import restore_to
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.outcomes import Taken
from spotwatchd.wire.seal import sealed_name
from tests.servers.stormproxy import StormProxy
from tests.shell.store_protocol.hands import Hands
from tests.shell.store_protocol.machine import Place, save

# All clients in a storm wait so long for a silent server. The deadlines of storms are a tenth
# of real ones, and so is this.
TIMEOUT = 1.0
CALM_SECONDS = 60.0
PREFIX = "storms"
KIB, MIB = 1 << 10, 1 << 20
Files = dict[str, bytes]


@dataclass
class Verdict:
    """What became of a storm. Times in seconds after it began; None: not done in time.

    Attributes:
        seed: of the storm.
        scenario: commit, owners or restore.
        deadline: seconds after the beginning.
        ours: when we were done.
        oracle: when the plain client was done (commit only).
        returned: when we came back, with or without success.
        said: what we said when we failed.
        listed: it was not told in time, and yet it is committed.
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
    listed: bool = False
    hits: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing was told that is not so."""
        return not self.false and not self.lost

    def late(self, slack: float) -> bool:
        """Whether the plain client was done ``slack`` before the deadline, and we were not."""
        possible = self.oracle is not None and self.oracle <= self.deadline - slack
        return possible and self.ours is None


class Lane:
    """A proxy for us and one for somebody else.

    Attributes:
        proxy: for us.
        backend: our client behind it.
        other: for somebody else.
    """

    def __init__(self, port: int, bucket: str) -> None:
        self._stack = contextlib.ExitStack()
        self.proxy = self._stack.enter_context(StormProxy(port))
        self.other = self._stack.enter_context(StormProxy(port))
        self.backend = _open(bucket, self.proxy.endpoint, TIMEOUT)
        self._bucket = bucket

    @functools.cached_property
    def rival(self) -> Backend:
        """Another client of ours, behind ``other``."""
        return _open(self._bucket, self.other.endpoint, TIMEOUT)

    def close(self) -> None:
        """Stop both."""
        self._stack.close()


class Sea:
    """A store with a bucket. Use as a context manager.

    Attributes:
        bucket: for clients of other kinds.
        calm: the store without a proxy, for those who look what is there.
    """

    def __init__(self, port: int, bucket: str, base: Path) -> None:
        self.bucket = bucket
        self.calm = _open(bucket, f"http://127.0.0.1:{port}", 20.0)
        self._port = port
        self._base = base
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()

    @contextlib.contextmanager
    def lane(self) -> Iterator[Lane]:
        """Proxies that nobody else uses now."""
        try:
            lane = self._free.get_nowait()
        except queue.Empty:
            lane = Lane(self._port, self.bucket)
        try:
            yield lane
        finally:
            lane.proxy.calm()
            lane.other.calm()
            self._free.put(lane)

    def close(self) -> None:
        """Stop all proxies."""
        while not self._free.empty():
            self._free.get_nowait().close()

    def voyage(self) -> Voyage:
        """A job of its own."""
        job = f"job-{uuid.uuid4().hex[:12]}"
        return Voyage(self, job, self._base / job)


class Voyage:
    """One job in one storm.

    Attributes:
        job: its name.
        base: a directory of its own.
    """

    def __init__(self, sea: Sea, job: str, base: Path) -> None:
        self.sea = sea
        self.job = job
        self.base = base

    def machine(self, name: str, backend: Backend, **settings: Any) -> Hands:
        """A machine that may have the job."""
        place = Place(self.base, backend.url, name, **{"keep_last": 100, **settings})
        spec = {"version": 1, "name": self.job, "run_id": "run-1", "argv": ["true"]}
        place.settings |= {"name": self.job, "spec": spec}
        return Hands(place, backend)

    def head(self) -> Head:
        """As it is now, read past the weather."""
        head = read_head(self.sea.calm, self.job)
        assert head is not None, "there is no head"
        return head

    def audit(self, known: dict[int, Files], verdict: Verdict) -> list[int]:
        """The steps that head lists; those that are known are restored and compared."""
        head = self.head()
        if head.quarantine:
            verdict.lost.append(f"quarantined: {head.quarantine}")
        listed = [entry.id.step for entry in head.checkpoints]
        for step in sorted({*listed} & {*known}):
            self._compare(step, known[step], verdict)
        return listed

    def _compare(self, step: int, files: Files, verdict: Verdict) -> None:
        # New each time: what is there already is not fetched.
        scratch = self.base / f"check-{uuid.uuid4().hex[:8]}"
        try:
            restore_to(self.sea.calm, self.job, scratch, step)
        except SpotwatchError as error:
            verdict.false.append(f"step {step} is listed and cannot be restored: {error}")
            return
        if found(scratch / sealed_name(step)) != files:
            verdict.false.append(f"step {step} is listed and has other bytes")


def take(hands: Hands) -> Taken:
    """In calm weather, however busy this machine is."""
    return hands.custody.take(hands.limits(CALM_SECONDS), lambda _: None)


def commit(hands: Hands, step: int, files: Files) -> None:
    """The same for a commit."""
    seal = save(hands.machine.checkpoints, step, files)
    hands.custody.commit(seal, "periodic", None, hands.limits(CALM_SECONDS))


def _open(bucket: str, endpoint: str, timeout: float) -> Backend:
    options = StoreOptions("", "us-east-1", connect_timeout=timeout, read_timeout=timeout)
    return open_backend(f"s3://{bucket}/{PREFIX}?endpoint={endpoint}", options)


def found(directory: Path) -> Files:
    """The files that are there."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def small(seed: int, step: int) -> Files:
    """A checkpoint that costs nothing."""
    return {"small.bin": f"{seed} {step} ".encode() * 50}


def random_files(seed: int, step: int) -> Files:
    """Few, many, or a large one that goes up in parts."""
    draw = random.Random(f"{seed} {step}")
    match draw.choices(("few", "many", "large"), (4, 2, 3))[0]:
        case "few":
            sizes = [draw.randint(1, 300 * KIB) for _ in range(draw.randint(1, 3))]
        case "many":
            sizes = [draw.randint(0, 20 * KIB) for _ in range(draw.randint(6, 12))]
        case _:
            sizes = [draw.randint(17 * MIB, 28 * MIB), draw.randint(1, 100 * KIB)]
    return {f"part-{n}.bin": draw.randbytes(size) for n, size in enumerate(sizes)}
