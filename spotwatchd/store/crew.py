"""A few threads that share one list of things to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from spotwatchd.store.growth import Stay, Workers

T = TypeVar("T")


class Stopped(Exception):
    """Another thread of the crew has failed: there is no point in going on."""


class Crew(Generic[T]):
    """Does ``do`` for each item; the first failure ends it all and is raised.

    Items are taken from the iterable one at a time, so it may be long.

    Args:
        start, most: how many threads at first, and at most.
        moved: bytes so far, any thread: more threads are tried while they help.
    """

    def __init__(
        self,
        do: Callable[[T], None],
        start: int,
        most: int = 0,
        moved: Callable[[], int] = lambda: 0,
    ) -> None:
        self.stop = threading.Event()
        self._do = do
        self.start, self._most, self._moved = start, most or start, moved
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def check(self) -> None:
        """For ``do``, now and then. Raises Stopped."""
        if self.stop.is_set():
            raise Stopped

    def run(self, items: Iterable[T]) -> None:
        """Returns when all is done. Raises what ``do`` raised first."""
        source = iter(items)
        workers = Workers(
            lambda stay: self._work(source, stay), self.start, self._most, self._moved
        )
        try:
            workers.run()
        finally:
            # An interrupt from the keyboard: whoever cleans up must be alone.
            self.stop.set()
            workers.join()
        if self._error is not None:
            raise self._error

    def _work(self, source: Iterable[T], stay: Stay) -> None:
        nothing: list[T] = []
        while stay() and not self.stop.is_set():
            try:
                with self._lock:
                    item = next(iter(source), nothing)
                if item is nothing:
                    return
                self._do(item)  # type: ignore[arg-type] # not ``nothing``
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - raised by ``run``
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
        self.stop.set()
