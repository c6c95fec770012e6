"""The real S3 server of the rehearsals, with a second identity and without automatic buckets."""

from __future__ import annotations

from pathlib import Path

from spotwatchd.rehearsal.s3server import LocalS3, identity

ACCESS, SECRET = "tester", "tester-secret"
READER, READER_SECRET = "reader", "reader-secret"


class Seaweed(LocalS3):
    """One server. Buckets are created by whoever needs them."""

    def __init__(self, directory: Path) -> None:
        reader = identity("reader", READER, READER_SECRET, "Read", "List")
        super().__init__(
            directory, access=ACCESS, secret=SECRET, others=[reader], create_buckets=False
        )
