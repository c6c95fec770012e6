"""Many owners, one job: the protocol of DESIGN.md section 6 in a world of two documents.

Each owner is a generator that stops before and after every read and write, so that any
other owner, any amount of time, and the owner's death can come in between. Answers get
lost, requests get lost, and writes land late. The owners' clocks are hours apart and run
at different speeds.

The owners use only core/lease.py and core/fence.py; the world checks every write to head by
itself, without asking the code under test. People who own nothing say what they want of the
job in between (core/intent.py).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spotwatchd.core import fence
from spotwatchd.core.fence import Halted
from spotwatchd.core.head import Head, Listed, parse_head
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.intent import want
from spotwatchd.core.lease import (
    Lease,
    Owner,
    Sighting,
    Tenure,
    Terms,
    at_once,
    look,
    may_take,
    parse_lease,
)
from spotwatchd.core.retention import Retention
from spotwatchd.core.wanted import Wanted
from spotwatchd.errors import JobError, LeaseLost

JOB = "job"
TERMS = Terms(seconds=10.0, margin=2.0)
KEEP_ALL = Retention(last=10_000)
Script = Generator[None, None, None]
PERSON = "a person"
_nonces = itertools.count(1)


def nonce() -> str:
    """Never the same twice."""
    return f"n{next(_nonces)}"


def wrote_head(mark: str, body: bytes) -> bool:
    """Whether ``body`` is the head that was written with ``mark``."""
    return parse_head(body, JOB, "head").written_by == mark


class NoAnswer(Exception):
    """The write may have happened, may happen later, or not at all."""


class Refused(Exception):
    """The condition was false."""


@dataclass
class Cell:
    """A document with conditional writes."""

    body: bytes | None = None
    version: int = 0

    def write(self, body: bytes, expected: int) -> None:
        if self.version != expected:
            raise Refused
        self.body, self.version = body, self.version + 1


@dataclass
class World:
    """The store, the true time, and what goes wrong next."""

    lease: Cell = field(default_factory=Cell)
    head: Cell = field(default_factory=Cell)
    now: float = 0.0
    fault: str = "none"
    late: list[Callable[[], None]] = field(default_factory=list)
    committed: list[CheckpointId] = field(default_factory=list)
    claimed: dict[int, str] = field(default_factory=dict)
    wish: Wanted | None = None

    def write(self, cell: Cell, body: bytes, expected: int, by: str) -> None:
        """A conditional write through an unreliable network."""
        fault, self.fault = self.fault, "none"
        if fault == "request lost":
            raise NoAnswer
        if fault == "late":
            self.late.append(partial(self._land, cell, body, expected, by))
            raise NoAnswer
        self._land(cell, body, expected, by)
        if fault == "answer lost":
            raise NoAnswer

    def _land(self, cell: Cell, body: bytes, expected: int, by: str) -> None:
        if cell is self.head and cell.version == expected:
            self._check(body, by)
        cell.write(body, expected)

    def _check(self, body: bytes, by: str) -> None:
        """Invariants 3 and 4, by the world's own books."""
        new = parse_head(body, JOB, "head")
        old = parse_head(self.head.body, JOB, "head") if self.head.body else None
        if by == PERSON:
            self._check_wish(old, new)
            return
        assert new.wanted == self.wish, "an owner's write changed what somebody wants"
        if old is None or new.generation != old.generation:
            assert new.generation > (old.generation if old else 0), "generations only grow"
            assert self.wish is None or self.wish.state == "running", "a stopped job was begun"
            assert new.generation not in self.claimed, "a generation has one owner"
            self.claimed[new.generation] = by
        assert self.claimed[new.generation] == by, "a fenced owner changed head"
        ids = [entry.id for entry in new.checkpoints]
        assert ids[: len(self.committed)] == self.committed, "a committed checkpoint is lost"
        added = ids[len(self.committed) :]
        assert all(checkpoint.generation == new.generation for checkpoint in added)
        self.committed = ids

    def _check_wish(self, old: Head | None, new: Head) -> None:
        """A wish is not a commit: nothing else changes."""
        assert old is not None, "a wish made a head"
        assert new.written_by != old.written_by
        same = replace(new, wanted=old.wanted, written_by=old.written_by)
        assert same == old, "a wish changed more than itself"
        self.wish = new.wanted


class Person:
    """Somebody without a lease, at a machine without one, who wants something of the job."""

    def __init__(self, world: World, state: str) -> None:
        self.world = world
        self.wish = Wanted(state, 0, nonce())
        self.script = self.live()

    def live(self) -> Script:
        """As store/wishing.py: read, swap, and again until it stands there or makes no sense."""
        with contextlib.suppress(JobError):
            while (yield from self.say()):
                pass
        while True:
            yield

    def say(self) -> Generator[None, None, bool]:
        yield
        body, version = self.world.head.body, self.world.head.version
        yield
        if body is None:
            return True
        head = parse_head(body, JOB, "head")
        wished = want(head, self.wish)
        if wished == head:
            return False
        with contextlib.suppress(NoAnswer, Refused):
            wished = replace(wished, written_by=nonce())
            self.world.write(self.world.head, wished.encode(), version, PERSON)
            return False
        return True


class Player:
    """One machine. ``script`` runs until the machine has lost the job, then begins again."""

    def __init__(self, world: World, number: int, offset: float, rate: float = 1.0) -> None:
        self.world = world
        self.rate = rate
        self.machine = f"m{number}"
        self.offset = offset
        self.boots = 0
        self.boot()

    def boot(self) -> None:
        """Everything in memory is gone."""
        self.boots += 1
        self.tenure: Tenure | None = None
        self.seen: Sighting | None = None
        self.sequence = 0
        self.known: tuple[Head | None, int] | None = None
        self.script = self.live()

    @property
    def me(self) -> Owner:
        return Owner(self.machine, f"b{self.boots}")

    def clock(self) -> float:
        return self.world.now * self.rate + self.offset

    def believes(self) -> bool:
        """Whether it counts on being the only one."""
        return self.tenure is not None and self.tenure.valid(self.clock(), TERMS)

    def live(self) -> Script:
        while True:
            with contextlib.suppress(LeaseLost, Halted):
                yield from self.reign()
            self.tenure = self.known = None

    def reign(self) -> Script:
        yield from self.take()
        while True:
            yield from self.renew()
            yield from self.commit()

    # -- reading and writing, with a stop before and after ---------------------------------

    def read(self, cell: Cell) -> Generator[None, None, tuple[bytes | None, int]]:
        yield
        found = cell.body, cell.version
        yield
        return found

    def write(
        self, cell: Cell, body: bytes, expected: int, mine: Callable[[bytes], bool]
    ) -> Generator[None, None, int | None]:
        """As store/swap.py: after no answer or a refusal, read back. The version, or None."""
        yield
        try:
            self.world.write(cell, body, expected, self.me.machine + self.me.boot_id)
        except (NoAnswer, Refused):
            there, version = yield from self.read(cell)
            return version if there is not None and mine(there) else None
        yield
        return expected + 1

    # -- the protocol ----------------------------------------------------------------------

    def take(self) -> Script:
        while True:
            body, version = yield from self.read(self.world.lease)
            lease = parse_lease(body, JOB, "lease") if body else None
            if lease is not None and not at_once(lease, self.me):
                now = self.clock()
                self.seen = look(self.seen, lease.nonce, lease.seconds, now)
                if not may_take(self.seen, now):
                    continue
            head, _ = yield from self.read_head()
            generation = fence.next_generation(lease.generation if lease else 0, head, [])
            if (yield from self.write_lease(Tenure(generation, nonce()), version)):
                break
        yield from self.swap(lambda head, tenure: fence.claim(head, tenure, JOB, "run"))

    def write_lease(self, tenure: Tenure, version: int) -> Generator[None, None, bool]:
        mark, sent_at = nonce(), self.clock()
        lease = Lease(JOB, self.me, tenure.generation, TERMS.seconds, mark, True, tenure.token)
        done = yield from self.write(
            self.world.lease,
            lease.encode(),
            version,
            lambda body: parse_lease(body, JOB, "lease").nonce == mark,
        )
        if done is not None:
            self.tenure = tenure.renewed(sent_at)
        return done is not None

    def renew(self) -> Script:
        assert self.tenure is not None
        body, version = yield from self.read(self.world.lease)
        assert body is not None
        lease = parse_lease(body, JOB, "lease")
        if (lease.generation, lease.tenure) != (self.tenure.generation, self.tenure.token):
            raise fence.lost(JOB, self.tenure.generation, lease.generation)
        yield from self.write_lease(self.tenure, version)

    def read_head(self) -> Generator[None, None, tuple[Head | None, int]]:
        body, version = yield from self.read(self.world.head)
        return (parse_head(body, JOB, "head") if body else None), version

    def swap(self, change: Callable[[Head | None, Tenure], Head]) -> Script:
        """As store/heads.py: on the head as last read or written; read anew when refused."""
        assert self.tenure is not None
        while True:
            self.known = self.known or (yield from self.read_head())
            head, version = self.known
            changed = change(head, self.tenure)
            if changed == head:
                return
            mark = nonce()
            changed = replace(changed, written_by=mark)
            written = yield from self.write(
                self.world.head, changed.encode(), version, partial(wrote_head, mark)
            )
            self.known = None if written is None else (changed, written)
            if written is not None:
                return

    def commit(self) -> Script:
        assert self.tenure is not None
        self.sequence += 1
        entry = Listed(CheckpointId(self.tenure.generation, self.sequence, 7), 1, "", "")
        addition = fence.Addition(entry, None, KEEP_ALL)

        def change(head: Head | None, tenure: Tenure) -> Head:
            assert head is not None
            return fence.commit(head, tenure, addition)

        yield
        if self.believes():  # else: the next turn renews first
            yield from self.swap(change)


class ManyOwners(RuleBasedStateMachine):
    """Any interleaving, any pause, any loss."""

    @initialize(
        clocks=st.lists(
            st.tuples(
                st.sampled_from([0.0, 3600.0, -3600.0, 1e6]), st.sampled_from([0.92, 1.0, 1.09])
            ),
            min_size=2,
            max_size=4,
        )
    )
    def begin(self, clocks: list[tuple[float, float]]) -> None:
        self.world = World()
        self.players = [
            Player(self.world, number, offset, rate) for number, (offset, rate) in enumerate(clocks)
        ]
        self.people: list[Person] = []

    @rule(
        who=st.integers(0, 3),
        steps=st.integers(1, 30),
        fault=st.sampled_from(["none"] * 5 + ["request lost", "answer lost", "late"]),
    )
    def go_on(self, who: int, steps: int, fault: str) -> None:
        player = self.players[who % len(self.players)]
        self.world.fault = fault
        for _ in range(steps):
            next(player.script)
            self.one_believer()
        self.world.fault = "none"

    @rule(state=st.sampled_from(["running", "running", "stopped"]))
    def somebody_wants(self, state: str) -> None:
        self.people.append(Person(self.world, state))

    @rule(
        who=st.integers(0, 3),
        steps=st.integers(1, 6),
        fault=st.sampled_from(["none"] * 2 + ["request lost", "answer lost", "late"]),
    )
    def people_go_on(self, who: int, steps: int, fault: str) -> None:
        if not self.people:
            return
        self.world.fault = fault
        for _ in range(steps):
            next(self.people[who % len(self.people)].script)
        self.world.fault = "none"

    @rule(seconds=st.sampled_from([0.1, 0.4, 1.0, 3.0, 7.9, 9.3, 10.3, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(who=st.integers(0, 3))
    def reboot(self, who: int) -> None:
        self.players[who % len(self.players)].boot()

    @rule()
    def a_late_write_lands(self) -> None:
        if self.world.late:
            try:
                self.world.late.pop(0)()
            except Refused:
                return

    @invariant()
    def one_believer(self) -> None:
        """Two owners never both count on the lease, whatever their clocks show."""
        if hasattr(self, "players"):
            assert sum(player.believes() for player in self.players) <= 1


ManyOwners.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, derandomize=True
)
TestManyOwners = ManyOwners.TestCase


rates = st.floats(0.92, 1.09)  # what the margin of TERMS pays for: 0.92 * 10 / 1.09 > 8
offsets = st.floats(-1e6, 1e6)


@example(0.92, 1.09, 0.0, 3600.0, 0.0, 0.0)
@given(rates, rates, offsets, offsets, st.floats(0, 5), st.floats(0, 20))
def test_the_margin_pays_for_clocks_of_different_speeds(
    holder_rate: float,
    taker_rate: float,
    holder_offset: float,
    taker_offset: float,
    landed: float,
    seen_after: float,
) -> None:
    """When a taker may take, the holder has stopped counting on its lease."""
    held = Tenure(1, "t", sent_at=holder_offset)
    seen_at = landed + seen_after
    seen = look(None, "n", TERMS.seconds, seen_at * taker_rate + taker_offset)
    # The first moment at which the taker, looking all the time, may take, in true time.
    taken_at = (seen.over - taker_offset) / taker_rate + 1e-6
    assert may_take(seen, taken_at * taker_rate + taker_offset)
    assert not held.valid(taken_at * holder_rate + holder_offset, TERMS)


def test_the_model_gets_somewhere() -> None:
    """A world without faults commits: the properties above are not about nothing."""
    world = World()
    first, second = Player(world, 0, 0.0), Player(world, 1, 3600.0)
    for _ in range(60):
        next(first.script)
    made = len(world.committed)
    assert made >= 2
    for _ in range(60):
        world.now += 1.0
        next(second.script)
    assert sorted(world.claimed) == [1, 2]
    assert len(world.committed) > made


def test_the_model_obeys() -> None:
    """A wish to stop keeps others from beginning; one to run lets them, and the owner goes on."""
    world = World()
    first, second = Player(world, 0, 0.0), Player(world, 1, 3600.0)
    for _ in range(60):
        next(first.script)
    for state, owners in (("stopped", 1), ("running", 2)):
        person = Person(world, state)
        for _ in range(10):
            next(person.script)
        for _ in range(120):
            world.now += 1.0
            next(second.script)
        assert len(world.claimed) == owners


def test_a_wish_between_a_write_and_its_lost_answer() -> None:
    """The owner's answer is lost, a wish follows, the owner reads back: the wish stays."""
    world = World()
    owner = Player(world, 0, 0.0)
    while len(world.committed) < 2:
        next(owner.script)
    version = world.head.version
    while world.head.version == version:
        world.fault = "answer lost"  # of whatever it writes next
        next(owner.script)
    world.fault = "none"
    person = Person(world, "stopped")
    while world.wish is None:
        next(person.script)
    made = len(world.committed)
    while len(world.committed) < made + 2:  # the world looks at the wish in each of its heads
        next(owner.script)
