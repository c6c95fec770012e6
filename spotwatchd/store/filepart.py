"""A piece of a file, as the body of one of the S3 library's requests."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from spotwatchd.store.base import Limits, Piece

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class FilePart(io.RawIOBase):
    """A piece of a file to be sent: seekable, and it ends when the time is over.

    The library reads it while sending, so a send that has become pointless stops at the
    next read instead of at the end of the part.
    """

    def __init__(self, piece: Piece, limits: Limits) -> None:
        super().__init__()
        self._piece = piece
        self._limits = limits
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._piece.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: min(len(view), max(0, self._piece.size - self._at))]
        self._limits.spend(len(view))
        got = os.preadv(self._piece.file, [view], self._piece.offset + self._at)
        if len(view) and not got:
            # Else the server would wait for the rest until its time-out.
            raise OSError("the file became shorter while it was sent")
        self._at += got
        return got
