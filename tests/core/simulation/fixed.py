"""What simpler policies save: a fixed order of jobs, the sealed first, or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.core.simulation.cases import Case, Trained
from tests.core.simulation.stream import Replica, Stream

Order = Callable[[Trained], float]

# The first has the link for itself, then the next. Each order with both habits: an upload
# goes on when a newer checkpoint is sealed, or it is stopped for it.
ORDERS: dict[str, Order] = {
    "as registered": lambda _job: 0.0,
    "smallest first": lambda job: job.size,
    "largest first": lambda job: -job.size,
    "most work first": lambda job: -job.done,
    "fastest to seal first": lambda job: job.flush,
}


def _next(replica: Replica, *, keep: bool, olds: bool) -> str:
    """What a replica uploads now."""
    if replica.committing:
        return ""
    newest = "new" if replica.sealed and replica.held < replica.worth("new") else ""
    older = "old" if olds and replica.left.get("old", 0) > 0 and not replica.held else ""
    if newest and older:
        return older if keep and replica.upload == "old" else newest
    return newest or older


def run(
    case: Case, ranks: Sequence[Sequence[str]] | None, *, keep: bool, olds: bool = True
) -> float:
    """Seconds of work saved.

    Args:
        case: the notice.
        ranks: (job, "old" or "new") in order of preference, or None for all at once.
        keep: an upload goes on when a newer checkpoint is sealed.
        olds: sealed checkpoints are uploaded at all.
    """
    stream = Stream(case)
    while stream.now < case.window:
        stream.committed_now()
        for replica, what in stream.uploaded_now():
            stream.commit(replica, what)
        stream.sealed_now()
        for replica in stream.replicas.values():
            replica.upload = _next(replica, keep=keep, olds=olds)
        if ranks is not None:
            _prefer(stream, ranks)
        stream.share()
        stream.advance(min(stream.change(), case.window))
    stream.committed_now()
    return stream.held()


def _prefer(stream: Stream, ranks: Sequence[Sequence[str]]) -> None:
    """The first that has something to send gets the link, the next what it leaves."""
    rate = stream.case.rate
    caps = dict.fromkeys(stream.replicas, 0.0)
    for name, what in ranks:
        replica = stream.replicas[name]
        wish = math.inf if replica.upload == what else 0.0
        if what == "new" and not replica.upload:
            wish = replica.grows(stream.now)
        given = min(wish, rate)
        caps[name] += given
        rate -= given
    for name, replica in stream.replicas.items():
        replica.cap = caps[name]


def fixed_orders(case: Case) -> dict[str, float]:
    """What each fixed order saves, with the better of its two habits."""
    found = {}
    for name, key in ORDERS.items():
        jobs = [job.name for job in sorted(case.jobs, key=key)]
        ranks = [(job, what) for job in jobs for what in ("old", "new")]
        found[name] = max(run(case, ranks, keep=keep) for keep in (True, False))
    return found


def sealed_first(case: Case) -> float:
    """The newest sealed checkpoint of every job, then the new ones."""
    jobs = [job.name for job in case.jobs]
    ranks = [(job, "old") for job in jobs] + [(job, "new") for job in jobs]
    return run(case, ranks, keep=True)


def new_only(case: Case) -> float:
    """Only what is saved after the notice."""
    return run(case, [(job.name, "new") for job in case.jobs], keep=False, olds=False)


def all_at_once(case: Case) -> float:
    """Everybody sends as fast as they can; both habits, the better."""
    return max(run(case, None, keep=keep) for keep in (True, False))
