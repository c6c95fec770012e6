"""Logs: one line per event, for people or machines; one that cannot be written harms nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd import logs

ROOT = Path(__file__).resolve().parents[2]
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"


@pytest.fixture(autouse=True)
def configured_back() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers, logging.getLogger().level = handlers, level


def test_text_tells_job_event_and_fields() -> None:
    """A person reads who, what, and figures; no colours off a terminal."""
    out = io.StringIO()
    logs.configure("text", "info", out)
    logs.get("engine").info("committed", job="resnet", step=9000, seconds=4.0, where="a b")
    pattern = rf'{STAMP}  resnet  committed  step=9000 seconds=4 where="a b"\n'
    assert re.fullmatch(pattern, out.getvalue())


def test_text_names_the_room_where_no_job_speaks() -> None:
    """An event without a job begins with its room; a warning says so."""
    out = io.StringIO()
    logs.configure("text", "info", out)
    logs.get("watch").warning("no answer", source="ec2")
    assert re.fullmatch(rf"{STAMP}  WARNING  watch  no answer  source=ec2\n", out.getvalue())


def test_an_event_is_one_line_whatever_it_holds() -> None:
    """Line breaks and control characters in values cannot forge a second line."""
    out = io.StringIO()
    logs.configure("text", "info", out)
    logs.get("x").info("two\nlines", job="a\nb", path="c\nd\x1b[31m")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_json_is_one_object_per_line() -> None:
    """A machine gets the same words as fields, with level and time."""
    out = io.StringIO()
    logs.configure("json", "info", out)
    logs.get("engine").info("sealed", job="resnet", step=7, path=Path("/x"), text="a\nb")
    document = json.loads(out.getvalue())
    assert re.fullmatch(STAMP, document.pop("timestamp"))
    assert document == {
        "event": "sealed",
        "job": "resnet",
        "level": "info",
        "path": "/x",
        "room": "engine",
        "step": 7,
        "text": "a\nb",
    }
    assert out.getvalue().count("\n") == 1


def test_auto_is_json_where_no_person_looks() -> None:
    """Neither a terminal nor the journal: JSON."""
    out = io.StringIO()
    logs.configure("auto", "info", out)
    logs.get("x").info("hello")
    assert json.loads(out.getvalue())["event"] == "hello"


def test_the_level_cuts() -> None:
    """Below the level nothing is written."""
    out = io.StringIO()
    logs.configure("text", "warning", out)
    logs.get("x").info("quiet")
    assert out.getvalue() == ""
    logs.get("x").error("loud")
    assert "ERROR  x  loud" in out.getvalue()


def test_an_exception_is_told_with_its_trace() -> None:
    """exc_info gives the traceback in both formats."""
    for form in ("text", "json"):
        out = io.StringIO()
        logs.configure(form, "info", out)
        try:
            os.environ["LOST"]
        except KeyError:
            logs.get("x").exception("bug")
        assert "KeyError: 'LOST'" in out.getvalue()


def test_libraries_speak_through_the_same_door() -> None:
    """What a library warns of by the standard logging module is one of our events."""
    out = io.StringIO()
    logs.configure("json", "info", out)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("chatter")
    document = json.loads(out.getvalue())
    assert (document["room"], document["event"]) == ("asyncio", "slow callback")


SPEAK = """
import sys
from spotwatchd import logs
logs.configure("auto", "info")
logs.get("x").info("hello", job="a")
logs.get("x").error("bad", job="a")
"""


def _speak(environment: dict[str, str], stderr: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", SPEAK],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=stderr,
        check=False,
    ).returncode


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path) -> None:
    """With stderr connected to the journal, lines are "<priority>text"."""
    with (tmp_path / "journal").open("wb") as file:
        info = os.fstat(file.fileno())
        status = _speak({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}, file.fileno())
    assert status == 0
    assert (tmp_path / "journal").read_text() == "<6>a  hello\n<3>a  bad\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_that_cannot_be_written_is_survived(unbuffered: str) -> None:
    """With /dev/full, or with nobody reading the pipe, the program ends as if nothing had been."""
    environment = {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        assert _speak(environment, full.fileno()) == 0
    read, write = os.pipe()
    os.close(read)
    try:
        assert _speak(environment, write) == 0
    finally:
        os.close(write)
