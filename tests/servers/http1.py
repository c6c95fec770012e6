"""Just enough HTTP/1.1 for a proxy: heads as bytes, bodies whole."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

_BIG = 1 << 20


@dataclass(frozen=True)
class Head:
    """The head of a request or of an answer, blank line included."""

    raw: bytes

    @property
    def first(self) -> list[str]:
        """The words of the first line."""
        return self.raw.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)

    def header(self, name: str) -> str | None:
        """A header's value."""
        found = re.search(rb"(?i)\r\n" + name.encode() + rb":[ \t]*([^\r]*)", self.raw)
        return found[1].decode("latin-1") if found else None

    def with_header(self, name: str, value: str | None) -> Head:
        """Another value; None: without it."""
        kept = re.sub(rb"(?i)\r\n" + name.encode() + rb":[^\r]*", b"", self.raw)
        if value is None:
            return Head(kept)
        return Head(kept[:-2] + f"{name}: {value}\r\n\r\n".encode("latin-1"))

    @property
    def length(self) -> int:
        """Of the body that Content-Length promises."""
        return int(self.header("content-length") or 0)


@dataclass(frozen=True)
class Answer:
    """An answer with its body as it is on the wire."""

    head: Head
    body: bytes = field(repr=False)

    def encode(self) -> bytes:
        """All of it."""
        return self.head.raw + self.body


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's head; None when the client is done."""
    try:
        return Head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError:
        return None


async def exchange(port: int, request: bytes) -> Answer:
    """Send a request to a server of this machine and read its answer; it may be kept alive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_BIG)
    try:
        writer.write(request)
        await writer.drain()
        head = await read_head(reader)
        if head is None:
            raise ConnectionResetError
        body = await reader.read()
        return Answer(head.with_header("Connection", None), body)
    finally:
        writer.close()


def made(status: int, body: bytes, **headers: str) -> Answer:
    """An answer of our own."""
    lines = [f"HTTP/1.1 {status} Weather", "Content-Type: application/xml"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return Answer(Head("\r\n".join(lines).encode()), body)
