"""A slice of a file, as the body of a request."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from spotwatchd.errors import Damaged
from spotwatchd.store.checksum import chunks_of, crc64nvme
from spotwatchd.store.retry import Patience

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Part(io.RawIOBase):
    """A slice of a file to be sent: seekable, and it ends when the time is over.

    The library reads it while sending, so a send that has become pointless stops at the
    next read instead of at the end of the part.
    """

    def __init__(self, file: io.FileIO, offset: int, length: int, patience: Patience) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._length = length
        self._patience = patience
        self._at = 0

    def checksum(self) -> int:
        """CRC64NVME of the slice. Raises Damaged when the file ends before it does."""
        self._file.seek(self._offset)
        size = crc = 0
        for chunk in chunks_of(self._file, self._length):
            size, crc = size + len(chunk), crc64nvme(chunk, crc)
        if size != self._length:
            raise self._shorter()
        return crc

    def _shorter(self) -> Damaged:
        return Damaged(
            "cannot put: the file became shorter while it was stored",
            where=str(self._file.name),
            remedy="checkpoints must not change after their rename: save to a new name",
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._patience.is_over():
            raise TimeoutError("the time given is over")
        view = memoryview(buffer).cast("B")
        view = view[: min(len(view), max(0, self._length - self._at))]
        got = os.preadv(self._file.fileno(), [view], self._offset + self._at)
        if len(view) and not got:
            # Else the server would wait for the rest until its time-out.
            raise OSError("the file became shorter while it was sent")
        self._at += got
        return got
