"""From an HTTP request to an answer: find, read, authorise, act. Every refusal is a problem."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

from aiohttp import web

from spotwatchd.control import finding, openapi
from spotwatchd.control.connections import Connection, OnBug, answer
from spotwatchd.control.desk import Desk, Document
from spotwatchd.control.limits import Limits
from spotwatchd.control.problems import Problem, bug, problem_of
from spotwatchd.control.receive import receive
from spotwatchd.control.routes import Answer, Call, Claims, Route, authorise
from spotwatchd.control.streams import Streams
from spotwatchd.errors import SpotwatchError


class Dispatch:
    """The handler of all requests.

    Attributes:
        streams: the open event streams.
    """

    def __init__(
        self, desk: Desk, routes: Sequence[Route], *, limits: Limits, on_bug: OnBug
    ) -> None:
        """Answer from ``desk``; report defects to ``on_bug``."""
        self._desk = desk
        self._routes = routes
        self._limits = limits
        self._on_bug = on_bug
        self._claims = Claims()
        self.streams = Streams(limits, self._unexpected)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer ``request``; whatever happens, the connection gets an answer."""
        where = f"{request.method[:16]} {_path(request)[:80]}"
        try:
            return await self._answer(request, where)
        except SpotwatchError as error:
            return answer(problem_of(error, where=where))
        except Exception as error:
            if isinstance(error, ConnectionError) and request.transport is None:
                raise  # the peer has gone: aiohttp lets go of the connection
            return answer(self._unexpected(error, where))

    async def _answer(self, request: web.BaseRequest, where: str) -> web.StreamResponse:
        route, name = finding.find(self._routes, request.method, _path(request))
        _no_query(request)
        raw = await receive(request, limit=route.body_limit(self._limits), limits=self._limits)
        call = self._call(request, name, route.read(raw))
        authorise(route, call)
        if route.follow is not None:
            return await self.streams.serve(request, route.follow(call), where)
        assert route.act is not None  # noqa: S101 - a route has one of the two
        return _json(await route.act(call))

    def _call(self, request: web.BaseRequest, name: str, body: object) -> Call:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - for the type checker
        return Call(self._desk, connection.caller, name, body, self._claims, self._api)

    def _api(self) -> Document:
        return openapi.document(self._routes, self._limits)

    def _unexpected(self, error: Exception, where: str) -> Problem:
        number = secrets.token_hex(4)
        error.add_note(f"answered as problem {number} to {where}")
        self._on_bug(error)
        return bug(number, where=where)


def _path(request: web.BaseRequest) -> str:
    return request.rel_url.raw_path


def _no_query(request: web.BaseRequest) -> None:
    if request.rel_url.raw_query_string:
        raise Problem(
            400,
            "query",
            "no route takes a query",
            remedy="leave out what follows '?'",
        )


def _json(result: Answer) -> web.Response:
    body = json.dumps(result.document, allow_nan=False).encode() + b"\n"
    return web.Response(
        status=result.status,
        body=body,
        headers={
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Server": "spotwatchd",
        },
    )
