"""What a route is, and who may use it. The routes themselves are in table.py."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spotwatchd.control import constraints, parse, strictjson
from spotwatchd.control.bodies import Body
from spotwatchd.control.desk import Desk, Document
from spotwatchd.control.limits import Limits
from spotwatchd.control.peers import Caller
from spotwatchd.control.problems import Problem


@dataclass
class Claims:
    """Names that are being registered right now, so that two users cannot both get one."""

    _held: Counter[tuple[str, int]] = field(default_factory=Counter)

    @contextmanager
    def claim(self, name: str, uid: int) -> Iterator[None]:
        """Hold ``name`` for ``uid``. Raises Problem (409) when another uid holds it."""
        if any(held == name and other != uid for held, other in self._held):
            raise taken(name)
        self._held[name, uid] += 1
        try:
            yield
        finally:
            self._held[name, uid] -= 1
            self._held += Counter()  # drops what is zero


@dataclass(frozen=True)
class Call:
    """One request, authorised and parsed.

    Attributes:
        desk: who answers.
        caller: the peer of the connection.
        name: the job in the path, "" where the route has none.
        body: what ``Route.body`` says: a body, a free JSON object, or None.
        claims: of the server.
        api: makes the OpenAPI document.
    """

    desk: Desk
    caller: Caller
    name: str
    body: Any
    claims: Claims
    api: Callable[[], Document]


@dataclass(frozen=True)
class Answer:
    """A JSON answer."""

    status: int
    document: Any


Act = Callable[[Call], Awaitable[Answer]]
Follow = Callable[[Call], AsyncIterator[Document]]


class ReplicatorEvent:
    """``{"event": WORD, "no": N, ...}`` of docs/architecture.md; other fields pass as they are."""

    def schema(self) -> dict[str, Any]:
        """Only what every event has."""
        word, number = constraints.EVENT_WORD, constraints.EVENT_NUMBER
        return {
            "type": "object",
            "description": "An answer or a fact from the job's replicator.",
            "properties": {
                "event": {"type": "string", **word.keywords, "description": word.says},
                "no": {"type": "integer", **number.keywords, "description": number.says},
            },
            "required": ["event"],
        }

    def read(self, raw: bytes) -> Document:
        """The event in ``raw``. Raises Problem."""
        document = strictjson.decode(raw)
        schema = self.schema()
        parse.require(schema, document)
        for key in schema["properties"].keys() & document.keys():
            parse.obey(schema["properties"][key], document[key], key)
        return document


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        method: GET or POST.
        path: with ``{name}`` for the job.
        title: one line for the document; also makes the operation id.
        act: answers with JSON; or
        follow: answers with a stream of events.
        body: class of the body, or None.
        answers: status to what it means.
        refusals: statuses of the problems that the route may answer beyond those of all.
        limit: name of the field of Limits that bounds its body.
        operator: only root and the daemon's own user may.
        inside: a job's container may too, over the job's own socket.
    """

    method: str
    path: str
    title: str
    act: Act | None = None
    follow: Follow | None = None
    body: type[Body] | ReplicatorEvent | None = None
    answers: tuple[tuple[int, str], ...] = ((200, "The answer."),)
    refusals: tuple[int, ...] = ()
    limit: str = "small_body_bytes"
    operator: bool = False
    inside: bool = False

    @property
    def of_job(self) -> bool:
        """Whether the path names a job."""
        return "{name}" in self.path

    def body_limit(self, limits: Limits) -> int:
        """Bytes that its body may have."""
        return int(getattr(limits, self.limit))

    def read(self, raw: bytes) -> Any:
        """The body in ``raw``, or None when the route takes none. Raises Problem."""
        if self.body is None:
            return _nothing(raw)
        if isinstance(self.body, ReplicatorEvent):
            return self.body.read(raw)
        return parse.read_body(self.body, raw)


def _nothing(raw: bytes) -> None:
    if raw.strip() not in (b"", b"{}"):
        raise Problem(
            422,
            "body-unexpected",
            "this route takes no body",
            remedy="send none, or an empty object",
        )


def taken(name: str) -> Problem:
    """The name belongs to somebody else; who, is not told."""
    return Problem(
        409,
        "name-taken",
        f"the name {name!r} is in use on this machine",
        field="name",
        remedy="choose another name",
    )


def authorise(route: Route, call: Call) -> None:
    """Let the call pass, or raise Problem. Nothing may be awaited between this and the desk."""
    uid, only = call.caller.uid, call.caller.only
    if only is not None:
        _confine(route, call, only)
        return
    if route.operator and uid not in (0, os.geteuid()):
        raise Problem(
            403,
            "not-operator",
            f"uid {uid} may not do this: only root and the user that spotwatchd runs as",
            remedy="use sudo",
        )
    if route.of_job:
        owner = call.desk.owner(call.name)
        # Somebody else's job looks exactly like none.
        if owner is None or uid not in (0, owner):
            raise no_job(call.name, uid)


def _confine(route: Route, call: Call, only: str) -> None:
    """Whoever comes over a job's own socket is that job and nobody else, also as root."""
    named = call.name if route.of_job else getattr(call.body, "name", only)
    if not route.inside or named != only:
        raise Problem(
            403,
            "not-this-job",
            f"this socket is for the job {only} alone",
            remedy="ask outside the container, on the socket of spotwatchd",
        )
    if call.desk.owner(only) is None:
        raise no_job(only, 0)


def no_job(name: str, uid: int) -> Problem:
    """There is no such job, as far as ``uid`` is concerned."""
    whose = "" if uid == 0 else f" of uid {uid}"
    return Problem(
        404,
        "no-job",
        f"no job {name[:64]!r}{whose}",
        remedy="spotwatch status lists the jobs; spotwatch run registers one",
    )
