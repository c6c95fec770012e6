"""The database file: blocking, used by one thread.

Three kinds of records share one table, because all of them are documents under a key.
``synchronous=FULL`` costs one fsync per transaction and makes an acknowledged write
survive a power cut (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from spotwatchd.errors import SpotwatchError

VERSION = 1
# Receipts, and drains that are over, are kept for people; jobs are kept until they are dropped.
KEEP = {"receipt": 1000, "drain": 100}
Doc = dict[str, Any]
Work = Callable[[sqlite3.Connection], Any]

_SCHEMA = """
CREATE TABLE record (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  key  TEXT NOT NULL,
  doc  TEXT NOT NULL,
  UNIQUE (kind, key)
) STRICT
"""
_SAVE = """
INSERT INTO record (kind, key, doc) VALUES (?, ?, ?)
ON CONFLICT (kind, key) DO UPDATE SET doc = excluded.doc
"""
_DROP = "DELETE FROM record WHERE kind = ? AND key = ?"
_TRIM = """
DELETE FROM record WHERE kind = ?1 AND id <= (
  SELECT id FROM record WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)
"""
_READ = "SELECT key, doc FROM record WHERE kind = ? ORDER BY id"
# What SQLite says when the file itself is bad, as against the disk below it.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """Opens the file at the first use, and again after it had to be given up."""

    def __init__(self, path: Path, alarm: Callable[[SpotwatchError], None]) -> None:
        self._path = path
        self._alarm = alarm
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Work) -> Any:
        """Do ``work``; once more on a new file when this one turns out to be damaged.

        Raises:
            SpotwatchError: the disk refuses, a newer version wrote it, another daemon has it.
        """
        try:
            try:
                return work(self._opened())
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
            self._move_aside()
            return work(self._opened())
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Close the file; the next ``run`` opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = _connect(self._path)
        return self._connection

    def _move_aside(self) -> None:
        self.close()
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            # They belong to the damaged file, and SQLite would play them into the new one.
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        self._alarm(
            SpotwatchError(
                "the journal was damaged and a new one was begun: unfinished jobs are found again "
                "in the store; past receipts are in the damaged file only",
                where=str(aside),
                remedy="look for disk errors (dmesg); remove that file when it is not needed",
            )
        )

    def _refused(self, error: Exception) -> SpotwatchError:
        text = str(error)
        remedy = f"make {self._path.parent} a directory that the daemon's user can write to"
        if "locked" in text:
            text = "another spotwatchd has it open"
            remedy = "stop the other one, or give this one a state_dir of its own"
        elif "full" in text or "No space" in text:
            remedy = f"free space on the disk of {self._path.parent}"
        return SpotwatchError(
            f"the journal cannot be used: {text}", where=str(self._path), remedy=remedy
        )


def _is_damage(error: sqlite3.Error) -> bool:
    # The low byte is the error's family (sqlite.org/rescode.html, extended result codes).
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _damaged(found: str) -> NoReturn:
    error = sqlite3.DatabaseError(found)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        # One daemon per journal, and no shared memory file beside it.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        found = connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            _damaged(found)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise SpotwatchError(
            f"the journal has version {version}, and this spotwatchd knows up to {VERSION}",
            where=str(path),
            remedy="run the newer spotwatchd that wrote it, or move the file away",
        )
    with _transaction(connection):
        if version == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def save(kind: str, key: str, doc: Doc | None) -> Work:
    """Work that saves a document, or forgets it when it is None."""
    # Encoded now: what the caller changes in its document later is another save's business.
    text = None if doc is None else json.dumps(doc, ensure_ascii=False)

    def work(connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            if text is None:
                connection.execute(_DROP, (kind, key))
            else:
                connection.execute(_SAVE, (kind, key, text))
            if kind in KEEP:
                connection.execute(_TRIM, (kind, KEEP[kind]))

    return work


def read(kind: str) -> Work:
    """Work that returns every (key, document) of a kind, oldest first."""

    def work(connection: sqlite3.Connection) -> list[tuple[str, Doc]]:
        return [(key, _decoded(doc)) for key, doc in connection.execute(_READ, (kind,))]

    return work


def _decoded(text: str) -> Doc:
    try:
        doc = json.loads(text)
    except ValueError:
        _damaged("a document is not JSON")
    if not isinstance(doc, dict):
        _damaged("a document is not an object")
    return doc
