"""One request to the metadata service: session token, limits, and a name for each failure.

A request is tried once. The exceptions are a 401, which is answered by one renewal of the token
and one more try, and a keep-alive connection that the service closed between two polls, which
aiohttp replaces. The next poll is the retry of everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from spotwatchd.core.deadline import Stamp
from spotwatchd.watch import parse
from spotwatchd.watch.health import Failure
from spotwatchd.watch.settings import ImdsSettings

# Notices are about 60 bytes and a long list of events a few KB.
BODY_LIMIT = 64 * 1024

TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"

_HINTS = {
    ("token", Failure.TIMEOUT): "; in a container? set the instance's metadata hop limit to 2",
    ("token", Failure.FORBIDDEN): "; instance metadata is turned off (HttpEndpoint)",
    ("token", Failure.STATUS): "; no IMDSv2 here? imds_v1 = true allows asking without a token",
}


class Trouble(Exception):
    """A request that gave nothing: ``kind`` is counted, the text says path and cause."""

    def __init__(self, kind: Failure, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Answer:
    """A 200 (``body``) or a 404 (``body`` None) and the clocks around it."""

    body: bytes | None
    stamp: Stamp


@dataclass(frozen=True)
class _Token:
    value: str
    renew_at: float
    expires_at: float


class Metadata:
    """The metadata service, seen through one keep-alive session.

    Create it inside the running loop, and ``close`` it there.
    """

    def __init__(
        self, settings: ImdsSettings, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._token: _Token | None = None
        self._session = _session(settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, path: str, *, renew: bool) -> Answer:
        """GET ``/latest/PATH``.

        ``renew`` allows a request for a session token; without it the one at hand is used, so
        that a slow path never competes with the notice's for the token.

        Raises:
            Trouble: for everything that is neither 200 nor 404.
        """
        fresh = not self.ready()
        token = await self._valid_token(renew=renew)
        try:
            return await self._get(path, token)
        except Trouble as trouble:
            if trouble.kind is not Failure.UNAUTHORIZED:
                raise
            self._forget(token)
            # A token refused at once is refused for another reason than its age.
            if fresh or not renew or self._settings.imds_v1:
                raise
        return await self._get(path, await self._valid_token(renew=True))

    def ready(self) -> bool:
        """True when ``get`` can ask without fetching a token first."""
        token = self._token
        return self._settings.imds_v1 or (token is not None and self._clock() < token.expires_at)

    def renewal_due(self) -> bool:
        """True when the token nears its end; the old one still serves."""
        return self._token is not None and self._clock() >= self._token.renew_at

    def _forget(self, value: str) -> None:
        # Somebody else may have replaced it in the meantime.
        if self._token is not None and self._token.value == value:
            self._token = None

    async def _valid_token(self, *, renew: bool) -> str:
        if self._settings.imds_v1:
            return ""
        if self._token is not None and self.ready():
            return self._token.value
        if not renew:
            raise Trouble(Failure.UNAUTHORIZED, "no session token yet")
        return await self.renew()

    async def renew(self) -> str:
        """Get a new token and use it from now on. Raises Trouble, and keeps the old one then."""
        sent = self._clock()
        wanted = self._settings.token_seconds
        status, body, headers = await self._exchange(
            "PUT", "api/token", {TTL_HEADER: str(wanted)}, what="token"
        )
        if status != 200:
            raise _refused("token", status)
        try:
            value = parse.token(body)
        except parse.Garbage as error:
            raise Trouble(Failure.GARBAGE, f"token: {error}") from error
        seconds = _seconds(headers.get(TTL_HEADER), wanted)
        # A tenth of its life, at most five minutes, is left to renew it without haste.
        self._token = _Token(value, sent + seconds - min(300.0, seconds / 10), sent + seconds)
        return value

    async def _get(self, path: str, token: str) -> Answer:
        sent, wall = self._clock(), self._wall()
        status, body, headers = await self._exchange(
            "GET", path, {TOKEN_HEADER: token} if token else {}, what=path
        )
        if status not in (200, 404):
            raise _refused(path, status)
        if status == 404:
            return Answer(None, Stamp(sent, wall, None))
        return Answer(body, Stamp(sent, wall, _date(headers.get("Date"))))

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], *, what: str
    ) -> tuple[int, bytes, dict[str, str]]:
        url = f"{self._settings.url}/latest/{path}"
        try:
            async with self._session.request(
                method, url, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await _body(response, what), _known_headers(response)
        except Trouble:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _named(what, error) from error
        # aiohttp reports some malformed answers as ValueError and the like. Whatever an
        # answer provokes, watching goes on.
        except Exception as error:
            raise Trouble(Failure.GARBAGE, f"{what}: {parse.quote(error)}") from error


def _session(settings: ImdsSettings) -> aiohttp.ClientSession:
    # Connecting gets a little less than the whole, so that "nobody there" and "connected and
    # then silent" are told apart: off EC2 the first is all there is.
    timeout = aiohttp.ClientTimeout(total=settings.timeout, sock_connect=0.9 * settings.timeout)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=15 + 2 * settings.poll_seconds),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "spotwatchd"},
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
        auto_decompress=False,
        trust_env=False,
    )


async def _body(response: aiohttp.ClientResponse, what: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            # Not to be read to its end: the connection goes with it.
            response.close()
            raise Trouble(Failure.GARBAGE, f"{what}: the answer is larger than {BODY_LIMIT} bytes")
    return bytes(body)


def _known_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    headers = response.headers
    return {name: headers[name] for name in ("Date", TTL_HEADER) if name in headers}


def _refused(what: str, status: int) -> Trouble:
    kinds = {401: Failure.UNAUTHORIZED, 403: Failure.FORBIDDEN}
    kind = kinds.get(status, Failure.SERVER_ERROR if status >= 500 else Failure.STATUS)
    return Trouble(kind, f"{what}: answered {status}{_HINTS.get((what, kind), '')}")


def _named(what: str, error: Exception) -> Trouble:
    kind = _kind(error)
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Trouble(kind, f"{what}: {kind.value} ({cause[:200]}){_HINTS.get((what, kind), '')}")


def _kind(error: Exception) -> Failure:
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Failure.UNREACHABLE
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientResponseError)):
        return Failure.GARBAGE
    return Failure.DROPPED


def _date(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parse.gmt(header)
    except parse.Garbage:
        return None


def _seconds(header: str | None, otherwise: int) -> float:
    """The life of a token as the service tells it; never longer than what was asked for."""
    if header is None or not header.isascii() or not header.isdigit() or len(header) > 6:
        return float(otherwise)
    return float(min(int(header), otherwise))
