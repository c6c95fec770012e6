"""From the core's Start to an order that can be carried out here, or to Blocked."""

from __future__ import annotations

from dataclasses import replace

from spotwatchd.core import events as ev
from spotwatchd.core.actions import Start
from spotwatchd.engine.house import House
from spotwatchd.engine.preparing import NotReady, Preparing
from spotwatchd.engine.records import Record
from spotwatchd.jobs.launcher import Order

GOES_AWAY = "the machine goes away"


async def ready(house: House, record: Record, action: Start, order: Order) -> Order:
    """The order as it is for this machine: what the job needs is there. Raises NotReady."""
    command = {"do": "prepare", "no": action.no, "env": dict(order.env)}
    command["here"] = not record.kept.foreign
    record.preparing = Preparing(record.link, command)
    try:
        if house.core.drain() is not None:
            raise NotReady(GOES_AWAY)
        found = await record.preparing.result()
    finally:
        record.preparing = None
    return replace(order, argv=found.argv, cwd=found.cwd, env={**order.env, **found.env})


def blocked(house: House, record: Record, action: Start, error: NotReady) -> None:
    """Tell people and the core what is missing."""
    if house.is_news(record, f"blocked {error.what}"):
        fix = f"; {error.remedy}" if error.remedy else ""
        house.tell(record, "blocked", f"blocked: {error.what}{fix}", where=error.where)
    house.post(ev.Blocked(record.name, action.no, error.what, error.remedy))


def give_up(record: Record | None, why: str) -> None:
    """Nobody waits for the job's preparation, if there is one, any more."""
    if record is not None and record.preparing is not None:
        record.preparing.give_up(why)
