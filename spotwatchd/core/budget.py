"""What to do with the link when there is not time for everything.

``decide`` takes what may be sent and what is known of the link, and gives the order in
which the link is to serve it. Estimates are noisy, so an order is judged by what it saves
in a few scenarios, not in the likely one alone; the order in force stays unless another
is clearly better, so that noise does not make it flutter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spotwatchd.core.choice import Key, choose
from spotwatchd.core.estimate import Estimate
from spotwatchd.core.fluid import Item, Pipe, saved, shares

NEARLY_DONE = 0.2  # of a typical upload left: a bird in the hand
KEEP = 0.02  # the order in force stays unless another saves this much more
SURE = 0.85  # sharing alike is good enough when it saves as much in this part of the time
TIGHT = 0.97  # the older before the newer, when both still fit in this part of the time
# Standard deviations to the worse and to the better, with weights: three points that have
# the variance of the normal distribution nearly right.
_SCENARIOS = ((1.2, 0.35), (0.0, 0.3), (-1.2, 0.35))
_LEAST = 0.1  # of a rate or size, however large the doubt
_CRUMB = 0.03  # of the link: less is not worth sending
_HALF = 0.5  # an upload that gets less than this of what it could use gives way to its job's newer
_OVERBOOKED = 0.02  # of the link: a file that grows slower than thought leaves no gap
_SWAPS = 12  # tries to improve an order: bounds the time


def keep_older(elapsed: float, typical: float | None, left: float | None) -> bool:
    """True when the upload in flight goes on although a newer checkpoint is sealed.

    The rule for one job while sizes and rates are unknown.

    Args:
        elapsed: seconds since the upload in flight began.
        typical: seconds that this job's uploads take, or None when none was measured.
        left: seconds to the deadline, or None when there is none.
    """
    if typical is None or left is None:
        return True
    remaining = max(0.0, typical - elapsed)
    if remaining + typical <= left or remaining <= NEARLY_DONE * typical:
        return True
    newer_fits = typical <= left
    older_fits = remaining <= left
    return older_fits and not newer_fits


def retry_delay(wanted: float, shortest: float, left: float | None) -> float:
    """The pause before another try, cut so that a try is left before the deadline."""
    if left is None or left <= shortest:
        return wanted
    return min(wanted, max(shortest, left / 2))


@dataclass(frozen=True)
class Plan:
    """The order in which the link serves checkpoints.

    Attributes:
        order: every item, the preferred first.
        chosen: keys of those that are thought to get through.
        fair: no need to prefer anybody: everything gets through as it is, with time to spare.
        rate: of the link that was reckoned with, bytes per second.
        horizon: seconds that were left for bytes.
        commit: seconds that a commit takes.
        worth: seconds of work that it is expected to save.
    """

    order: tuple[Item, ...]
    chosen: frozenset[Key]
    fair: bool
    rate: float
    horizon: float
    commit: float
    worth: float

    def rank(self, key: Key) -> int:
        """Its place in the order; behind all when it is not in it."""
        keys = [item.key for item in self.order]
        return keys.index(key) if key in keys else len(keys)

    def caps(self) -> dict[str, float | None]:
        """The upload cap of each job that has something to send now, None for no cap."""
        caps: dict[str, float | None] = {}
        if self.fair:
            return dict.fromkeys(item.job for item, _, _ in self._now())
        held = self.held()
        for item, wish, share in self._now():
            if item.key in held:
                continue
            got = caps.get(item.job, 0.0)
            full = share >= 0.98 * min(wish, self.rate)
            little = 0.0 if self._starved(share) else share + _OVERBOOKED * self.rate
            caps[item.job] = None if full or got is None else got + little
        return caps

    def speeds(self) -> dict[str, float]:
        """What each job is expected to send per second."""
        found: dict[str, float] = {}
        for item, _, share in self._now():
            found[item.job] = found.get(item.job, 0.0) + share
        return found

    def held(self) -> frozenset[Key]:
        """Sealed checkpoints that get little while their job sends what it is writing.

        One cap holds for both and uploads go first, so the upload of the sealed one must rest.
        """
        now = self._now()
        growing = [(each, share) for each, _, share in now if each.ready > 0]
        served = {each.job for each, share in growing if not self._starved(share)}
        return frozenset(
            item.key
            for item, wish, share in now
            if item.ready <= 0 and item.job in served and self._little(item, wish, share)
        )

    def _little(self, item: Item, wish: float, share: float) -> bool:
        unlikely = item.key not in self.chosen and share < 0.98 * min(wish, self.rate)
        return wish > 0 and (unlikely or share < _HALF * min(wish, self.rate))

    def served(self) -> frozenset[Key]:
        """What gets a part of the link now."""
        return frozenset(item.key for item, _, share in self._now() if not self._starved(share))

    def _now(self) -> list[tuple[Item, float, float]]:
        """What can be sent now: how much it could use of the link, and what it gets."""
        active = Pipe(self.order, commit=self.commit).active()
        given = shares([wish for _, wish in active], self.rate, fair=self.fair)
        return [(self.order[p], wish, s) for (p, wish), s in zip(active, given, strict=True)]

    def _starved(self, share: float) -> bool:
        return share <= _CRUMB * self.rate


@dataclass(frozen=True)
class _Case:
    """A scenario: the items and the link as they may turn out."""

    items: dict[Key, Item]
    rate: float
    weight: float


class _Judge:
    """What an order is worth."""

    def __init__(self, items: Sequence[Item], link: Estimate, left: float, commit: float) -> None:
        self.horizon, self.commit, self.rate = left, commit, link.middle
        self.items = {item.key: item for item in items}
        doubtful = link.spread > 0 or any(i.size_doubt > 0 or i.ready_doubt > 0 for i in items)
        scenarios = _SCENARIOS if doubtful else ((0.0, 1.0),)
        self.cases = [_case(items, link, worse, weight) for worse, weight in scenarios]

    def worth(self, order: Sequence[Key], *, fair: bool = False, part: float = 1.0) -> float:
        """Seconds of work that it saves on average, in ``part`` of the time."""
        total, time = 0.0, self.horizon * part
        for case in self.cases:
            items = [case.items[key] for key in order]
            got = saved(items, case.rate, time, commit=self.commit, fair=fair)
            total += case.weight * got
        return total

    def everything(self) -> float:
        """The work of all jobs."""
        best: dict[str, float] = {}
        for item in self.items.values():
            best[item.job] = max(item.value, best.get(item.job, 0.0))
        return sum(best.values())

    def by_density(self, keys: Sequence[Key]) -> list[Key]:
        """The most work per byte first."""
        return sorted(keys, key=lambda key: -self.items[key].density)

    def plan(self, order: Sequence[Key], *, fair: bool) -> Plan:
        """The plan that this order makes."""
        ordered = tuple(self.items[key] for key in order)
        likely = Pipe(ordered, commit=self.commit)
        likely.run(self.rate, self.horizon, fair=fair)
        done, worth = frozenset(likely.done), self.worth(order, fair=fair)
        return Plan(ordered, done, fair, self.rate, self.horizon, self.commit, worth)

    def candidates(self) -> list[list[Key]]:
        """For each scenario the best choice in it first, then the rest."""
        found = []
        for case in self.cases:
            chosen = [
                item.key for item in choose(list(case.items.values()), case.rate, self.horizon)
            ]
            rest = [key for key in self.items if key not in chosen]
            found.append(self.by_density(chosen) + self.by_density(rest))
        return found


def _case(items: Sequence[Item], link: Estimate, worse: float, weight: float) -> _Case:
    changed = (
        {item.key: _shifted(item, worse) for item in items}
        if worse
        else {item.key: item for item in items}
    )
    rate = link.middle * max(_LEAST, 1 - worse * link.relative)
    return _Case(changed, rate, weight)


def _shifted(item: Item, worse: float) -> Item:
    size = max(_LEAST * item.size, item.size + worse * item.size_doubt)
    share = item.unwritten / item.size if item.size > 0 else 0.0
    ready = item.ready
    if ready > 0:
        ready = max(_LEAST * ready, ready + worse * item.ready_doubt)
    return replace(item, size=size, unwritten=size * share, ready=ready)


def decide(
    items: Sequence[Item],
    link: Estimate,
    left: float,
    *,
    commit: float = 0.0,
    present: Sequence[Key] = (),
) -> Plan:
    """The order to go by from now on.

    Args:
        items: everything that may be sent.
        link: its rate, bytes per second.
        left: seconds until the last byte must be there for a commit in time.
        commit: seconds that a commit takes.
        present: the order in force.
    """
    judge = _Judge(items, link, left, commit)
    easy = _kept(judge, present) or sorted(judge.items, key=lambda key: key[1])
    all_of_it = judge.everything() * (1 - 1e-6)
    if judge.worth(easy, fair=True, part=SURE) >= all_of_it:
        return judge.plan(easy, fair=True)
    best, worth = _best(judge, judge.candidates())
    best, worth = _hedged(judge, best, worth)
    if len(judge.cases) > 1:
        best, worth = _swapped(judge, best, worth)
    kept = _kept(judge, present)
    if kept is not None and (old := judge.worth(kept)) * (1 + KEEP) >= worth:
        best, worth = kept, old
    return judge.plan(best, fair=judge.worth(best, fair=True, part=SURE) >= all_of_it)


def _best(judge: _Judge, orders: Sequence[list[Key]]) -> tuple[list[Key], float]:
    best, worth = orders[0], judge.worth(orders[0])
    for order in orders[1:]:
        if order != best and (other := judge.worth(order)) > worth:
            best, worth = order, other
    return best, worth


def _hedged(judge: _Judge, best: list[Key], worth: float) -> tuple[list[Key], float]:
    """The older checkpoint of a job first, where the newer gets through all the same."""
    for key in list(best):
        newer = [k for k in best if k[0] == key[0] and k[1] > key[1]]
        if not newer or best.index(key) < min(map(best.index, newer)):
            continue
        order = [k for k in best if k != key]
        order.insert(min(map(order.index, newer)), key)
        other = judge.worth(order)
        if other >= worth and judge.worth(order, part=TIGHT) >= judge.worth(best, part=TIGHT):
            best, worth = order, other
    return best, worth


def _swapped(judge: _Judge, best: list[Key], worth: float) -> tuple[list[Key], float]:
    """Neighbours change places while that saves more."""
    tries, place = 0, 0
    while tries < _SWAPS and place + 1 < len(best):
        order = [*best[:place], best[place + 1], best[place], *best[place + 2 :]]
        tries += 1
        if (other := judge.worth(order)) > worth * (1 + 1e-9):
            best, worth, place = order, other, max(0, place - 1)
        else:
            place += 1
    return best, worth


def _kept(judge: _Judge, present: Sequence[Key]) -> list[Key] | None:
    """The order in force, with what is new to it behind; None without one."""
    kept = [key for key in present if key in judge.items]
    if not kept:
        return None
    return kept + judge.by_density([key for key in judge.items if key not in kept])
