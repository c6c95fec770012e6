"""Waiting for a job's replicator to make the machine ready for an attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from spotwatchd.engine.link import Link
from spotwatchd.errors import SpotwatchError


class NotReady(SpotwatchError):
    """This machine lacks something that the job needs."""


@dataclass(frozen=True)
class Prepared:
    """How the program is started here (store/preparing.py)."""

    argv: list[str]
    cwd: str
    env: dict[str, str]


class Preparing:
    """One preparation, from the command to its answer.

    The replicator runs as the job's user: what it answers decides only what runs as them.
    """

    def __init__(self, link: Link, command: dict[str, Any]) -> None:
        self._link = link
        self._command = command
        self._answer: asyncio.Future[Prepared] = asyncio.get_running_loop().create_future()

    async def result(self) -> Prepared:
        """Say the command and wait. Raises NotReady."""
        self.say()
        return await self._answer

    def say(self) -> None:
        """Say the command (again, after a reconnect); the replicator knows it by its number."""
        self._link.send(self._command)

    def receive(self, message: dict[str, Any]) -> None:
        """Take the answer. Raises KeyError, TypeError, ValueError when it is none."""
        if message["no"] != self._command["no"] or self._answer.done():
            return
        if message["event"] == "prepared":
            self._answer.set_result(_prepared(message))
            return
        what, remedy = str(message["what"])[:500], str(message.get("remedy", ""))[:500]
        where = str(message.get("where", ""))[:500]
        self._answer.set_exception(NotReady(what, where=where, remedy=remedy))

    def give_up(self, why: str) -> None:
        """Nobody waits for the answer any more."""
        if not self._answer.done():
            self._link.send({"do": "cancel", "no": self._command["no"]})
            self._answer.set_exception(NotReady(why))


def _prepared(message: dict[str, Any]) -> Prepared:
    argv, cwd, env = message["argv"], message["cwd"], message["env"]
    words = [*argv, cwd, *env.keys(), *env.values()]
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in words):
        raise ValueError("argv, cwd and env are not made of strings")
    if not cwd.startswith("/"):
        raise ValueError("cwd is not absolute")
    return Prepared(argv, cwd, env)
