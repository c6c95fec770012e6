"""The journal: what was acknowledged is there afterwards, whatever happens to its writer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spotwatchd.errors import SpotwatchError
from spotwatchd.journal import Journal
from spotwatchd.journal import database as db

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "state" / "journal.db")
    await opened.open()
    yield opened
    await opened.close()


async def reopened(path: Path, alarms: list[SpotwatchError] | None = None) -> Journal:
    seen: list[SpotwatchError] = [] if alarms is None else alarms
    found = Journal(path, seen.append)
    await found.open()
    return found


async def test_jobs_are_there_after_closing(tmp_path: Path) -> None:
    """A job saved twice is one job with the newest document; a dropped one is gone."""
    path = tmp_path / "journal.db"
    first = await reopened(path)
    await first.save_job("b", {"step": 1})
    await first.save_job("a", {"step": 2})
    await first.save_job("b", {"step": 3, "name": "ünï \U0001f600"})
    await first.save_job("gone", {})
    await first.drop_job("gone")
    await first.close()
    second = await reopened(path)
    assert await second.jobs() == {"b": {"step": 3, "name": "ünï \U0001f600"}, "a": {"step": 2}}
    assert list(await second.jobs()) == ["b", "a"]
    await second.close()


async def test_only_open_drains_are_open(journal: Journal) -> None:
    """A drain is open until a document says closed."""
    await journal.save_drain("1", {"deadline": 5.0})
    await journal.save_drain("2", {"deadline": 6.0})
    await journal.save_drain("1", {"deadline": 5.0, "closed": True})
    assert await journal.open_drains() == {"2": {"deadline": 6.0}}


async def test_receipts_come_newest_first(journal: Journal) -> None:
    """The limit cuts the oldest; saving a receipt again does not move it."""
    for number in range(5):
        await journal.save_receipt(str(number), {"number": number})
    await journal.save_receipt("0", {"number": 0, "resumed": True})
    assert [doc["number"] for doc in await journal.receipts(3)] == [4, 3, 2]
    assert (await journal.receipts())[-1] == {"number": 0, "resumed": True}


async def test_receipts_do_not_grow_without_end(journal: Journal) -> None:
    """The oldest receipts make room; jobs never do."""
    keep = db.KEEP["receipt"]
    await journal.save_job("old", {})
    for number in range(keep + 7):
        journal.post("receipt", str(number), {"number": number})
    await journal.flush()
    numbers = [doc["number"] for doc in await journal.receipts(keep * 2)]
    assert numbers == list(range(keep + 6, 6, -1))
    assert await journal.jobs() == {"old": {}}


async def test_posts_and_awaited_writes_keep_their_order(journal: Journal) -> None:
    """What is posted before an awaited write is on disk when that returns."""
    for step in range(50):
        journal.post("job", "a", {"step": step})
    await journal.save_job("b", {})
    assert (await journal.jobs())["a"] == {"step": 49}
    journal.post("job", "a", None)
    await journal.flush()
    assert "a" not in await journal.jobs()


async def test_a_saved_document_is_a_copy(journal: Journal) -> None:
    """Changing a document after posting it changes nothing on disk."""
    doc = {"step": 1}
    journal.post("job", "a", doc)
    doc["step"] = 2
    assert await journal.jobs() == {"a": {"step": 1}}


async def test_the_loop_goes_on_while_the_disk_stands_still(journal: Journal) -> None:
    """With the journal's thread held up for good, the loop still turns and posts return."""
    held, release = threading.Event(), threading.Event()

    def slow(_connection: sqlite3.Connection) -> None:
        held.set()
        release.wait(30)

    waiting = asyncio.create_task(journal._do(slow))
    assert await asyncio.to_thread(held.wait, 10)
    for step in range(100):
        journal.post("job", "a", {"step": step})
        await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    await waiting
    assert await journal.jobs() == {"a": {"step": 99}}


def _contents(path: Path) -> bytes:
    return path.read_bytes()


def _flip_schema(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[100:400] = os.urandom(300)
    path.write_bytes(raw)


def _spoil_a_late_page(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-4096:-2048] = bytes(2048)
    path.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(9000)),
    "short garbage": lambda path: path.write_bytes(b"not a database"),
    "a late page half empty": _spoil_a_late_page,
    "header kept, first page overwritten": _flip_schema,
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}


@pytest.mark.parametrize("how", sorted(DAMAGE))
async def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, how: str) -> None:
    """The daemon starts with an empty journal, keeps the bad file, and raises one alarm."""
    path = tmp_path / "journal.db"
    first = await reopened(path)
    for number in range(200):
        first.post("job", f"job-{number}", {"text": "x" * 100})
    await first.close()
    DAMAGE[how](path)
    broken = _contents(path)
    alarms: list[SpotwatchError] = []
    second = await reopened(path, alarms)
    assert len(alarms) == 1, "found at the start, not when it is needed"
    await second.save_job("new", {})
    assert list(await second.jobs()) == ["new"]
    await second.close()
    (alarm,) = alarms
    aside = Path(alarm.where)
    assert aside.parent == tmp_path
    assert _contents(aside) == broken
    assert alarm.remedy


async def test_an_unreadable_document_counts_as_damage(tmp_path: Path) -> None:
    """A document that is not JSON moves the file aside while the daemon runs; writing goes on."""
    path = tmp_path / "journal.db"
    first = await reopened(path)
    await first.save_job("a", {})
    await first.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE record SET doc = '{'")
    raw.close()
    alarms: list[SpotwatchError] = []
    second = await reopened(path, alarms)
    assert await second.jobs() == {}
    await second.save_job("b", {})
    assert list(await second.jobs()) == ["b"]
    await second.close()
    assert len(alarms) == 1


async def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    """A journal of a later version is left alone, and the error says both versions."""
    path = tmp_path / "journal.db"
    await (await reopened(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 9")
    raw.close()
    before = _contents(path)
    with pytest.raises(SpotwatchError, match=r"version 9.*up to 1"):
        await reopened(path)
    assert _contents(path) == before


async def test_a_second_daemon_is_refused(tmp_path: Path, journal: Journal) -> None:
    """Two daemons never share a journal; the first one is not disturbed."""
    await journal.save_job("a", {})
    with pytest.raises(SpotwatchError, match="another spotwatchd"):
        await reopened(tmp_path / "state" / "journal.db")
    await journal.save_job("b", {})
    assert list(await journal.jobs()) == ["a", "b"]


async def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """Opening below a plain file fails with the path and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpotwatchError) as caught:
        await reopened(tmp_path / "file" / "journal.db")
    assert caught.value.where.endswith("journal.db")
    assert "directory" in caught.value.remedy


async def test_a_full_disk_is_reported_and_outlived(tmp_path: Path) -> None:
    """Writes fail loudly while there is no room; with room again they succeed, nothing is lost."""
    alarms: list[SpotwatchError] = []
    journal = await reopened(tmp_path / "journal.db", alarms)
    await journal.save_job("a", {"step": 1})
    # SQLite's own limit gives the very error of a full disk (SQLITE_FULL).
    await journal._do(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
    big = {"text": "x" * 200_000}
    with pytest.raises(SpotwatchError, match="full") as caught:
        await journal.save_job("b", big)
    assert "free space" in caught.value.remedy
    journal.post("job", "c", big)
    await journal.flush()
    assert len(alarms) == 1
    await journal._do(
        lambda connection: connection.execute("PRAGMA max_page_count = 9999").fetchall()
    )
    await journal.save_job("b", big)
    assert await journal.jobs() == {"a": {"step": 1}, "b": big}
    await journal.close()


async def test_writes_are_made_to_last(journal: Journal) -> None:
    """Each transaction is synced to the disk: what kill -9 cannot show, a power cut would."""

    def pragma(name: str) -> db.Work:
        return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]

    names = ("synchronous", "journal_mode", "locking_mode")
    settings = {name: await journal._do(pragma(name)) for name in names}
    assert settings == {"synchronous": 2, "journal_mode": "wal", "locking_mode": "exclusive"}


async def test_what_is_not_open_says_so(tmp_path: Path) -> None:
    """Using a closed journal raises instead of waiting for ever."""
    journal = Journal(tmp_path / "journal.db")
    with pytest.raises(SpotwatchError, match="not open"):
        await journal.jobs()
    await journal.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from spotwatchd.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]))
    await journal.open()
    number = len(await journal.receipts(10**6))
    while True:
        journal.post("job", "posted", {"number": number})
        await journal.save_receipt(str(number), {"number": number})
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        number += 1

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A writer killed at random moments, ten times over: every acknowledged write is there."""
    path = tmp_path / "journal.db"
    dice = random.Random(7)
    acknowledged = -1
    for _ in range(10):
        acknowledged = max(acknowledged, await asyncio.to_thread(_write_and_die, path, dice))
        alarms: list[SpotwatchError] = []
        journal = await reopened(path, alarms)
        numbers = [doc["number"] for doc in await journal.receipts(10**6)]
        posted = (await journal.jobs())["posted"]["number"]
        await journal.close()
        assert alarms == []
        assert numbers[0] >= acknowledged
        assert numbers == sorted(numbers, reverse=True)
        assert posted >= acknowledged


def _write_and_die(path: Path, dice: random.Random) -> int:
    """Start a writer, kill it after a random number of acknowledgements; the last of them."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as writer:
        assert writer.stdout is not None
        for _ in range(dice.randint(1, 25)):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = [line for line in writer.stdout.read().split("\n") if line]
    return int(rest[-1]) if rest else last


def test_the_file_is_private(tmp_path: Path) -> None:
    """Nobody but the daemon's user may read the journal (it holds environments of jobs)."""
    path = tmp_path / "state" / "journal.db"
    database = db.Database(path, lambda error: pytest.fail(str(error)))
    database.run(db.save("job", "a", json.loads("{}")))
    database.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
