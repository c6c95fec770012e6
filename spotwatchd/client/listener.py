"""Hearing an ask: the hot path.

``should_checkpoint`` is one index into mapped memory and one comparison. Everything else
hides behind the second operand of its ``and``, which runs only when the number on the
board is not the one answered last.

While nobody is registered there is no board. Then the "board" is a constant that always
differs, so that the same hot path falls through to ``_try_again``, which looks for a daemon
now and then: a process that was started before the daemon hears of asks all the same, and
one with a board pays nothing for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from spotwatchd.client.registration import Registration
from spotwatchd.wire.board import Ask, BoardReader

_ASK = 1  # the word to poll, see wire/board.py
_DEAF: Sequence[int] = (0, 0)  # equals the answered number: never asked
_SEARCHING: Sequence[int] = (0, -1)  # never equals it: look around

# Nobody there costs 20 us a try, a daemon that hangs 200 ms: at most 0.3 % of the time.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0


class Listener:
    """Reads the board of a registration, and follows it when it moves."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._board: BoardReader | None = None
        self._board_file: tuple[int, int] | None = None
        self._words: Sequence[int] = _DEAF if registration.silent else _SEARCHING
        self._answered = 0
        self._pause = _FIRST_PAUSE
        self._next_try = time.monotonic() + _FIRST_PAUSE
        self._closed = False
        self.refresh()

    def should_checkpoint(self) -> bool:
        """True from an ask until it is answered or withdrawn."""
        return self._words[_ASK] != self._answered and self._look()

    def current(self) -> Ask | None:
        """The newest ask, or None when there is none or it was withdrawn."""
        return self._board.current() if self._board is not None else None

    def answered(self, number: int) -> None:
        """Ask ``number`` is dealt with."""
        self._answered = number

    def refresh(self) -> None:
        """Map the board that the registration names, if it is another one than now."""
        standing = self._registration.standing
        if standing is None or self._closed:
            return
        try:
            file = _identity(standing.board)
            if file != self._board_file:
                self._map(standing.board, file)
        except (OSError, ValueError) as error:
            self._registration.tell(f"asks cannot be heard: {error}")

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._drop(_DEAF)

    def _look(self) -> bool:
        if self._board is None:
            self._try_again()
            return False
        number = self._board.number()  # before current(): an ask in between is not swallowed
        if self._board.current() is None:
            self._answered = number
            return False
        return True

    def _try_again(self) -> None:
        now = time.monotonic()
        if now < self._next_try:
            return
        self._next_try = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._registration.register()
        self.refresh()

    def _map(self, path: str, file: tuple[int, int]) -> None:
        board = BoardReader(path)
        self._drop(_DEAF)
        self._board, self._board_file, self._words = board, file, board.words

    def _drop(self, words: Sequence[int]) -> None:
        self._words, self._answered = words, 0
        if self._board is not None:
            self._board.close()
        self._board = self._board_file = None


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - a str path from the wire
    return status.st_dev, status.st_ino
