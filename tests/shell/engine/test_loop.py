"""The mailbox and the one timer, with the real core."""

from __future__ import annotations

import asyncio

from spotwatchd.core.actions import Action, DrainClosed, DrainOpened, JobSettled, Undrained
from spotwatchd.core.events import Event, JobAdded, NoticeSeen
from spotwatchd.core.machine import Core
from spotwatchd.core.settings import CoreSettings
from spotwatchd.core.words import JobPolicy, MachineAction, Notice
from spotwatchd.engine.loop import Engine, boot_clock


async def test_a_timer_alone_ends_a_drain() -> None:
    """One notice, a job that never answers, nothing else: settled at the deadline, then spared."""
    done: list[Action] = []
    seen: list[Event] = []
    turns: list[int] = []
    over = asyncio.Event()

    def act(action: Action) -> None:
        done.append(action)
        if isinstance(action, Undrained):
            over.set()

    core = Core(settings=CoreSettings(undrain_after=0.2), first_number=1)
    engine = Engine(core, act=act, observe=seen.append, after_turn=lambda: turns.append(1))
    engine.post(JobAdded("job", JobPolicy(), running=True))
    deadline = boot_clock() + 0.3
    engine.post(NoticeSeen(Notice("test", MachineAction.STOP, deadline, "key")))
    task = asyncio.create_task(engine.run())
    async with asyncio.timeout(40):
        await over.wait()
    at = boot_clock()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kinds = [type(action) for action in done]
    for kind in (DrainOpened, JobSettled, DrainClosed, Undrained):
        assert kinds.count(kind) == 1
    assert at >= deadline + 0.2
    assert len(seen) >= 4, "two events of ours and two of the timer"
    assert turns
