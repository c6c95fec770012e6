"""A small S3-like server that gets chosen things wrong: it keeps objects in memory.

Several real servers answer 200 to a conditional write and ignore the condition, keep no
checksums, or cannot delete many keys at once. Signatures are not looked at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

from tests.servers.loop import LoopServer


@dataclass
class Carefree(LoopServer):
    """Use as a context manager; ``endpoint`` is set inside.

    Attributes:
        faults: of ``ignore-if-none-match``, ``ignore-if-match``, ``no-batch-delete``
            (501), ``flip`` (stores one bit wrong).
        objects: full key (bucket first) to bytes.
    """

    faults: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    endpoint: str = ""

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{bucket}", self._bucket)
        app.router.add_route("*", "/{bucket}/{key:.*}", self._object)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def _stop(self) -> None:
        await self._runner.cleanup()

    async def _bucket(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return _refusal(501, "NotImplemented")
        start = f"{request.match_info['bucket']}/{request.query.get('prefix', '')}"
        found = sorted(key for key in self.objects if key.startswith(start))
        entries = "".join(
            f"<Contents><Key>{escape(key.split('/', 1)[1])}</Key>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in found
        )
        return web.Response(text=f"<ListBucketResult>{entries}</ListBucketResult>")

    async def _object(self, request: web.Request) -> web.Response:
        key = f"{request.match_info['bucket']}/{request.match_info['key']}"
        if request.method == "PUT":
            return self._put(key, await request.read(), request)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return _refusal(404, "NoSuchKey")
        return web.Response(body=self.objects[key], headers={"ETag": _etag(self.objects[key])})

    def _put(self, key: str, body: bytes, request: web.Request) -> web.Response:
        stored = self.objects.get(key)
        if_match = request.headers.get("If-Match")
        exists = "If-None-Match" in request.headers and stored is not None
        stale = if_match and (stored is None or _etag(stored) != if_match)
        if exists and "ignore-if-none-match" not in self.faults:
            return _refusal(412, "PreconditionFailed")
        if stale and "ignore-if-match" not in self.faults:
            return _refusal(412, "PreconditionFailed")
        if "flip" in self.faults and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.objects[key] = body
        return web.Response(headers={"ETag": _etag(body)})


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324 - S3's ETag is that


def _refusal(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")
