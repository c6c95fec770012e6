"""This process's standing with the daemon. Every method is bounded and none raises.

A registration is the daemon's knowledge of this process (a pidfd taken at connect), so
one request registers and no connection stays open. It is made again when it may be gone:
the last word found nobody or was answered "unknown", or the socket is another one than
the one registered at (a daemon that restarts binds a new one). Words are rare (a seal, a
finish), so this costs one ``stat`` per word; nothing runs between words, and no thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotwatchd.client.identity import Identity
from spotwatchd.client.line import call, within
from spotwatchd.errors import DaemonUnreachable

_GONE = (404, 409, 410)  # the daemon does not know the job or the process (any more)


@dataclass(frozen=True)
class Standing:
    """What the daemon answers to a process that registers.

    Attributes:
        board: path of the job's notice board.
        restoring: the job's checkpoint is not chosen yet; ask again.
        document: the whole answer.
    """

    board: str
    restoring: bool
    document: dict[str, Any]


class Registration:
    """Registers, speaks, and registers again when needed."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.standing: Standing | None = None
        self._socket_seen: tuple[int, ...] | None = None
        self._said: set[str] = set()
        self._pid = os.getpid()

    @property
    def ours(self) -> bool:
        """False in a forked child: it must not speak for its parent."""
        return os.getpid() == self._pid

    @property
    def silent(self) -> bool:
        """Nobody is to be told anything."""
        return not self.identity.announced or not self.ours

    def register(self, until: float | None = None) -> Standing | None:
        """Make this process known. None when nobody answers, or the answer is no."""
        if self.silent:
            return None
        until = within() if until is None else until
        self._socket_seen = _fingerprint(self.identity.socket)
        self.standing = self._introduce(until)
        return self.standing

    def say(self, word: str, body: dict[str, Any]) -> bool:
        """POST ``body`` to the job's ``word`` (registering first if needed), 0.2 s in all."""
        if self.silent:
            return False
        until, target = within(), f"/v1/jobs/{self.identity.name}/{word}"
        if self._doubtful() and self.register(until) is None:
            return False
        status, answer = self._post(target, body, until)
        if status in _GONE and self.register(until) is not None:
            status, answer = self._post(target, body, until)
        return self._accepted(target, status, answer)

    def tell(self, line: str) -> None:
        """One line for the person at the terminal, once."""
        if line not in self._said:
            self._said.add(line)
            with contextlib.suppress(OSError, ValueError):  # a closed stderr stops no training
                print(f"spotwatch: {line}", file=sys.stderr, flush=True)

    def _doubtful(self) -> bool:
        return self.standing is None or self._socket_seen != _fingerprint(self.identity.socket)

    def _introduce(self, until: float) -> Standing | None:
        who = self.identity
        if not who.launched:
            job = {
                "name": who.name,
                "checkpoint_dir": str(who.checkpoint_dir),
                "argv": None,
                "resume_command": who.resume_command,
            }
            if not self._accepted("/v1/jobs", *self._post("/v1/jobs", job, until)):
                return None
        target = f"/v1/jobs/{who.name}/processes"
        process = {"rank": who.rank, "world_size": who.world_size}
        status, answer = self._post(target, process, until)
        if not self._accepted(target, status, answer) or not isinstance(answer, dict):
            return None
        return Standing(
            self._placed(str(answer.get("board"))), answer.get("state") == "restoring", answer
        )

    def _placed(self, board: str) -> str:
        # In a container the daemon's paths mean nothing: the board lies beside the socket.
        return os.path.join(os.path.dirname(self.identity.socket), board)  # noqa: PTH118, PTH120 - str in, str out

    def _post(self, target: str, body: dict[str, Any], until: float) -> tuple[int, Any]:
        try:
            return call(self.identity.socket, "POST", target, body, until=until)
        except DaemonUnreachable as error:
            self.standing = None
            self._tell_absence(error)
            return 0, None

    def _accepted(self, target: str, status: int, answer: Any) -> bool:
        if status >= 300:
            self.tell(_refusal(target, status, answer))
        return 200 <= status < 300

    def _tell_absence(self, error: DaemonUnreachable) -> None:
        # A directory that is not there is the quiet, everyday case of a laptop: still one line.
        place = f"{self.identity.name} saves to {self.identity.checkpoint_dir}"
        if Path(self.identity.socket).exists():
            self.tell(f"{error.what} ({error.where}); {place} and goes on")
        else:
            self.tell(f"no daemon here; {place}")


def _refusal(target: str, status: int, answer: Any) -> str:
    problem = answer if isinstance(answer, dict) else {}
    detail = problem.get("detail") or problem.get("title") or "no reason given"
    return f"the daemon answered {status} to {target}: {detail} {problem.get('remedy', '')}".strip()


def _fingerprint(socket: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(socket)  # noqa: PTH116 - a str path, and a Path costs more than the call
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
