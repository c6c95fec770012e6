"""The mailbox: events in, one call of the core each, its actions to the hands.

The only caller of the core and the owner of the only timer. Nothing here waits for an
action: every action is carried out elsewhere and answers with an event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from spotwatchd.core.actions import Action
from spotwatchd.core.events import Event, Woken
from spotwatchd.core.machine import Core

# The loop's timers run on CLOCK_MONOTONIC, which stops while the machine sleeps; looking
# at the boot clock this often bounds how late a deadline is noticed after a thaw.
_LONGEST_SLEEP = 5.0


def boot_clock() -> float:
    """Seconds since boot, sleep included: the daemon's one clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Engine:
    """Feeds the core. ``post`` may be called from the loop's thread only."""

    def __init__(
        self,
        core: Core,
        *,
        act: Callable[[Action], None],
        observe: Callable[[Event], None],
        after_turn: Callable[[], None],
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """Wire it up.

        Args:
            core: what decides.
            act: starts an action and returns at once.
            observe: sees every event just before the core does.
            after_turn: called when a batch of events is dealt with.
            clock: CLOCK_BOOTTIME seconds.
        """
        self._core = core
        self._act = act
        self._observe = observe
        self._after_turn = after_turn
        self._clock = clock
        self._mailbox: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def post(self, event: Event) -> None:
        """Put an event into the mailbox."""
        self._mailbox.append(event)
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wait()
            if not self._mailbox and self._is_due():
                self._mailbox.append(Woken())
            while self._mailbox:
                self._turn(self._mailbox.popleft())
            self._after_turn()

    def _turn(self, event: Event) -> None:
        self._observe(event)
        for action in self._core.handle(event, self._clock()):
            self._act(action)

    def _is_due(self) -> bool:
        wakeup = self._core.next_wakeup()
        return wakeup is not None and wakeup <= self._clock()

    async def _wait(self) -> None:
        if self._mailbox:
            await asyncio.sleep(0)  # let the rooms run between two bursts of events
            return
        wakeup = self._core.next_wakeup()
        sleep = _LONGEST_SLEEP if wakeup is None else wakeup - self._clock()
        self._arrived.clear()
        try:
            async with asyncio.timeout(min(max(sleep, 0.0), _LONGEST_SLEEP)):
                await self._arrived.wait()
        except TimeoutError:
            return
