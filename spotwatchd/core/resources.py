"""Who gets which of a machine's GPUs: a pure function of what there is, who holds it, who waits.

A job asks for a number of GPUs and gets that many for itself, by index; or it asks for none
(0); or it does not say. One that does not say sees what its CUDA_VISIBLE_DEVICES names,
usually all, as if there were no spotwatchd: several such jobs share, and nothing changes for
them. But a GPU that somebody has for himself is nobody else's, seen or not.

Jobs start in the order of their priority, then of their registration, and what does not fit
is not overtaken by a later job that wants the same kind of thing: a stream of small jobs
would keep a big one waiting for ever. Some kinds of job hold nobody up: one that can never
fit on this machine, one that another machine runs at present, one that lacks something
here, and one that is not due (it crashed a second ago). Nobody who runs is stopped for a priority.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resources:
    """What a machine has to give.

    Attributes:
        gpus: their indices; None while nobody knows.
        cpu_jobs: how many jobs without a GPU may run at a time; None: any number.
        problem: why GPUs that may be there were not found, "" when nothing went wrong.
    """

    gpus: tuple[int, ...] | None = None
    cpu_jobs: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Seat:
    """What a job holds from the moment it takes its lease until its processes are gone.

    Attributes:
        own: GPUs that it has for itself.
        sees: GPUs that it may use beside others; None: all of them.
    """

    own: tuple[int, ...] = ()
    sees: tuple[int, ...] | None = ()


@dataclass(frozen=True)
class Wish:
    """A job that would start now.

    Attributes:
        gpus: how many it wants for itself; None: it does not say.
        sees: GPUs that one that does not say would use; None: all.
        priority: higher first.
        since: when it was registered, ISO 8601: the earlier first among equals.
        owner: whose it is: nobody is told the names of other people's jobs.
        elsewhere: another machine runs it, so it may go for the lease but reserves nothing.
        yields: it may well not run even if it fits (it lacked something here when it was last
            tried), so nobody waits for it.
        soon: it is not ready, but will be in a moment: its room is kept, it does not start.
    """

    job: str
    gpus: int | None = None
    sees: tuple[int, ...] | None = None
    priority: int = 0
    since: str = ""
    owner: str = ""
    elsewhere: bool = False
    yields: bool = False
    soon: bool = False

    @property
    def place(self) -> tuple[int, str, str]:
        """Its place in the order."""
        return -self.priority, self.since, self.job


@dataclass(frozen=True)
class Holder:
    """A job that holds a seat.

    Attributes:
        firm: it is sure to need it: its lease is won.
    """

    job: str
    seat: Seat
    owner: str = ""
    firm: bool = True


@dataclass(frozen=True)
class Queued:
    """Why a job waits, and what a person can do about it."""

    reason: str
    remedy: str = ""


@dataclass
class Plan:
    """What is decided.

    Attributes:
        seats: who may start, and on what.
        tries: who may go for a lease that another machine has, without a seat so far.
        queued: who waits.
    """

    seats: dict[str, Seat] = field(default_factory=dict)
    tries: set[str] = field(default_factory=set)
    queued: dict[str, Queued] = field(default_factory=dict)


def visible(text: str | None) -> tuple[int, ...] | None:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES names; None: all, or nobody can tell.

    As in CUDA's programming guide: the first index that is none ends the list. Names such as
    GPU-... or MIG-... are not looked up: a job with those counts as one that may use any.
    """
    if text is None:
        return None
    found: list[int] = []
    for word in text.split(",") if text.strip() else []:
        if word.strip().startswith("-"):
            break
        if not (word.strip().isascii() and word.strip().isdigit()):
            return None
        found.append(int(word))
    return tuple(sorted(set(found)))


def plan(machine: Resources, holders: Iterable[Holder], wishes: Iterable[Wish]) -> Plan:
    """Who starts now, on which GPUs, and why the others wait.

    Args:
        machine: what there is.
        holders: who has what; none of them is in ``wishes``.
        wishes: who would start now.
    """
    room, made = _Room(machine, list(holders)), Plan()
    # Takes come and go; a job that may wait for hours is not sent away and back for each.
    firm = _Room(machine, [holder for holder in room.holders if holder.firm])
    gates: dict[bool, Wish] = {}  # whom later jobs do not overtake, per kind of thing
    for wish in sorted(wishes, key=lambda each: each.place):
        if wish.elsewhere:
            _may_try(firm, made, wish)
            continue
        gate = gates.get(room.is_cpu(wish))
        seat = None if gate is not None else room.seat(wish)
        if seat is None:
            never = room.never(wish)
            made.queued[wish.job] = never or (_after(gate, wish) if gate else room.why(wish))
            if gate is None and never is None and not wish.yields:
                gates[room.is_cpu(wish)] = wish
            continue
        if not wish.soon:
            made.seats[wish.job] = seat
        room.holders.append(Holder(wish.job, seat, wish.owner))
    return made


def _may_try(room: _Room, made: Plan, wish: Wish) -> None:
    if room.seat(wish) is not None:
        made.tries.add(wish.job)
    else:
        made.queued[wish.job] = room.never(wish) or room.why(wish)


@dataclass
class _Room:
    machine: Resources
    holders: list[Holder]

    def is_cpu(self, wish: Wish) -> bool:
        """Whether the job uses no GPU here, so that only their number is limited."""
        return wish.gpus == 0 or (wish.gpus is None and self._uses_none(wish.sees))

    def _uses_none(self, sees: tuple[int, ...] | None) -> bool:
        return sees == () or self.machine.gpus == ()

    def _cpu_holders(self) -> list[Holder]:
        return [h for h in self.holders if not h.seat.own and self._uses_none(h.seat.sees)]

    def _owned(self) -> set[int]:
        return {index for holder in self.holders for index in holder.seat.own}

    def _free(self) -> list[int]:
        """GPUs that one job may have for itself."""
        taken = self._owned()
        for holder in self.holders:
            if holder.seat.sees is None:
                return []
            taken.update(holder.seat.sees)
        return [index for index in self.machine.gpus or () if index not in taken]

    def seat(self, wish: Wish) -> Seat | None:
        """What the job gets now, or None."""
        if self.is_cpu(wish):
            limit = self.machine.cpu_jobs
            fits = limit is None or len(self._cpu_holders()) < limit
            return Seat(sees=() if wish.gpus == 0 else wish.sees) if fits else None
        if wish.gpus is None:
            owned = self._owned()
            clash = bool(owned) if wish.sees is None else not owned.isdisjoint(wish.sees)
            return None if clash else Seat(sees=wish.sees)
        free = self._free()
        return Seat(own=tuple(free[: wish.gpus])) if len(free) >= wish.gpus else None

    def never(self, wish: Wish) -> Queued | None:
        """Why it can never run on this machine, or None when it may."""
        there = self.machine.gpus
        if there is None or not wish.gpus or wish.gpus <= len(there):
            return None
        problem = f" ({self.machine.problem})" if self.machine.problem else ""
        has = f"has only {len(there)}" if there else "has none"
        return Queued(
            f"needs {_gpus(wish.gpus)}, this machine {has}{problem}",
            f"a machine with {_gpus(wish.gpus)} can take it from the store",
        )

    def why(self, wish: Wish) -> Queued:
        """Why it does not fit now."""
        if self.is_cpu(wish):
            return self._why_cpu(wish)
        if self.machine.gpus is None and wish.gpus is not None:
            return Queued(f"needs {_gpus(wish.gpus)}, and this machine's are still looked for")
        sharers = [h for h in self.holders if not h.seat.own and not self._uses_none(h.seat.sees)]
        if wish.gpus is not None and sharers:
            return self._why_shared(wish, wish.gpus, sharers)
        owners = [holder for holder in self.holders if holder.seat.own]
        names = _names(owners, wish)
        ends = f"it starts by itself when enough of {names} ended; priority stops nobody"
        if wish.gpus is None:
            what = f"may use every GPU, because it did not say how many; {names} hold some"
            return Queued(what, f"{ends}; or say --gpus N, 0 for none")
        there = len(self.machine.gpus or ())
        free = f"{len(self._free())} of {there} free"
        return Queued(f"needs {_gpus(wish.gpus)}, {free}: {names} hold the others", ends)

    def _why_cpu(self, wish: Wish) -> Queued:
        names = _names(self._cpu_holders(), wish)
        return Queued(
            f"{self.machine.cpu_jobs} jobs without a GPU run already: {names}",
            "it starts by itself when one ended; resources.cpu_jobs is the limit",
        )

    def _why_shared(self, wish: Wish, count: int, sharers: list[Holder]) -> Queued:
        names = _names(sharers, wish)
        return Queued(
            f"needs {_gpus(count)} for itself, and {names} may use any: started without --gpus",
            f"it starts by itself when {names} ended; jobs with --gpus N run beside each other",
        )


def _after(gate: Wish, wish: Wish) -> Queued:
    name = gate.job if gate.owner == wish.owner else "a job of another user"
    needs = "" if gate.gpus is None else f", which needs {_gpus(gate.gpus)}" if gate.gpus else ""
    return Queued(
        f"its turn is after {name}{needs}",
        "a higher --priority goes first; among equals the one registered first",
    )


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _names(holders: Collection[Holder], wish: Wish) -> str:
    """Whom a person may know of, at most four by name."""
    own = sorted(holder.job for holder in holders if holder.owner == wish.owner)
    words = own[:4]
    if len(own) > len(words):
        words.append(f"{len(own) - len(words)} more")
    if len(own) < len(holders):
        words.append("jobs of other users")
    return ", ".join(words) or "nobody"
