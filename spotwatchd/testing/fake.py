"""FakeIMDS: EC2 metadata on a port of this machine, with notices and faults on demand."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from spotwatchd.errors import SpotwatchError
from spotwatchd.testing.faults import Faults
from spotwatchd.testing.instance import Instance, rfc3339
from spotwatchd.testing.orders import add_orders
from spotwatchd.testing.scene import MaintenanceEvent, Notice, Request, Scene, Tokens
from spotwatchd.testing.serving import Service, note
from spotwatchd.testing.thread import ServingThread

# How many requests are remembered: half an hour of polling at four requests per two seconds.
_REMEMBERED = 4000

# Thirty years either way: times that can be written in all formats, and no NaN.
_FARTHEST = 1e9


class FakeIMDS:
    """A fake EC2 metadata service.

    ``async with FakeIMDS() as imds`` serves in the running loop; ``with FakeIMDS() as imds`` serves
    from a thread of its own. All other methods may be called from any thread.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        instance: facts of the instance.
        imds_v1: answer requests without a token, too.

    Attributes:
        url: ``http://HOST:PORT``, known once it listens.
        requests: what it was asked, oldest first (control requests are not counted).
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        instance: Instance | None = None,
        imds_v1: bool = False,
    ) -> None:
        self.url = ""
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self._host, self._port = host, port
        self._scene = Scene(instance or Instance(pending_time=time.time()))
        self._tokens = Tokens(required=not imds_v1)
        self._faults = Faults()
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._closing: asyncio.Event | None = None
        self._thread: ServingThread | None = None

    # --- what happens to the instance

    def announce(self, action: str = "terminate", seconds: float = 120.0) -> float:
        """Show a spot notice whose time is ``seconds`` from now; negative is in the past.

        The time is a whole second, as on EC2, and does not change any more.

        Returns:
            The time in the notice, in Unix seconds of the service's clock.

        Raises:
            ValueError: ``seconds`` is more than thirty years.
        """
        when = float(round(self.now() + _sane(seconds)))
        self._scene.notice = Notice(action, when)
        return when

    def rebalance(self) -> None:
        """Show a rebalance recommendation."""
        self._scene.recommended = self.now()

    def schedule(self, code: str = "system-reboot", seconds: float = 120.0) -> str:
        """Show a scheduled event that begins ``seconds`` from now. Returns its id.

        Raises ValueError as ``announce`` does.
        """
        event_id = f"instance-event-{next(self._numbers):017x}"
        begin = self.now() + _sane(seconds)
        event = MaintenanceEvent(event_id, code, begin, begin + 1800)
        self._scene.events = (*self._scene.events, event)
        return event_id

    def autoscaling(self, state: str | None = "Terminated") -> None:
        """Set the Auto Scaling target lifecycle state; None: the instance is in no group."""
        self._scene.autoscaling = state

    def override(self, path: str, body: bytes) -> None:
        """Answer ``body`` for ``/latest/PATH``, whatever it is."""
        self._scene.overrides = {**self._scene.overrides, path.strip("/"): body}

    def withdraw(self) -> None:
        """Take back notices, hints, events, target state and overrides."""
        self._scene.quiet()

    # --- what goes wrong with the service

    def fault(
        self,
        kind: str,
        *,
        seconds: float | None = None,
        times: int | None = None,
        path: str = "",
        amount: float | None = None,
    ) -> None:
        """Misbehave.

        Args:
            kind: one of ``spotwatchd.testing.KINDS``.
            seconds: for how long; None: until ``heal()``.
            times: for how many requests; None: for all.
            path: only for request paths that contain this text, e.g. "instance-action".
            amount: seconds or bytes, see KINDS.

        Raises:
            ValueError: there is no such kind, or the amount is beyond reason.
        """
        if kind == "expire-tokens":
            self._tokens.expire()
            return
        self._faults.add(kind, path, seconds, times, amount)

    def heal(self) -> None:
        """End all faults."""
        self._faults.heal()

    def clear(self) -> None:
        """A quiet instance on a healthy service: ``withdraw()`` and ``heal()``."""
        self.withdraw()
        self.heal()

    def now(self) -> float:
        """The service's wall clock, Unix seconds."""
        skew = self._faults.standing("skew")
        return time.time() + (skew.amount if skew else 0.0)

    def state(self) -> dict[str, object]:
        """What is on display, as plain JSON values."""
        scene = self._scene
        shown = scene.notice
        return {
            "url": self.url,
            "notice": {"action": shown.action, "time": rfc3339(shown.when)} if shown else None,
            "rebalance": rfc3339(scene.recommended) if scene.recommended is not None else None,
            "events": [event.entry() for event in scene.events],
            "autoscaling": scene.autoscaling,
            "faults": self._faults.names(),
            "requests": len(self.requests),
        }

    # --- life

    async def start(self) -> None:
        """Listen. Raises SpotwatchError when the address cannot be had."""
        self._closing = asyncio.Event()
        service = Service(
            self._scene, self._tokens, self._faults, now=self.now, closing=self._closing
        )

        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append(note(request))
            return await service.handle(request)

        app = web.Application()
        add_orders(app, self._deeds(), self.state)
        app.router.add_route("*", "/{path:.*}", handle)
        # A client that went away takes its hanging handler with it.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await self._listen(self._runner)

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._closing is not None:
            self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _deeds(self) -> dict[str, Callable[..., object]]:
        return {
            "notice": self.announce,
            "rebalance": self.rebalance,
            "event": self.schedule,
            "asg": self.autoscaling,
            "clear": self.clear,
            "heal": self.heal,
            "fault": self.fault,
        }

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise SpotwatchError(
                f"the fake metadata service cannot listen: {error.strerror or error}",
                where=f"{self._host}:{self._port}",
                remedy="choose another address; port 0 takes a free one",
            ) from error
        # The port stays the same over a stop and a start, as a restarted service's would.
        self._port = runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._thread = ServingThread(self)
        self._thread.start_serving()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.end()
            self._thread = None


def _sane(seconds: float) -> float:
    if not abs(seconds) <= _FARTHEST:
        raise ValueError(f"seconds is {seconds:g}, which is beyond thirty years")
    return seconds
