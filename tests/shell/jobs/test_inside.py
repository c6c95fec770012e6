"""The directory that is mounted into a job's container."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spotwatchd.errors import JobError
from spotwatchd.jobs.inside import Inside
from spotwatchd.wire.board import BoardReader, BoardWriter


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_who_gets_there_is_decided_outside(tmp_path: Path) -> None:
    """The outer directory is its user's alone; in the mounted one no uid is asked for."""
    inside = Inside(tmp_path, "resnet", None)
    try:
        assert inside.path == tmp_path / "jobs" / "resnet" / "inside"
        assert _mode(inside.path.parent) == 0o700
        assert _mode(inside.path) == 0o755
        board = BoardWriter(inside.through / "board", mode=0o644)
        board.ask(1, deadline=None, cause="stop", action="none")
        reader = BoardReader(inside.path / "board")
        assert reader.number() == 1
        assert _mode(inside.path / "board") == 0o644
        reader.close()
        board.close()
    finally:
        inside.close()


def test_it_stays_the_same_directory(tmp_path: Path) -> None:
    """A container's mount outlives the daemon, so the next daemon uses the same one."""
    first = Inside(tmp_path, "resnet", None)
    number = os.fstat(first.fd).st_ino
    first.close()
    second = Inside(tmp_path, "resnet", None)
    assert os.fstat(second.fd).st_ino == number
    second.remove()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """The job's user owns the outer directory: what they put there leads the daemon nowhere."""
    Inside(tmp_path, "resnet", None).close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "jobs" / "resnet" / "inside").rename(tmp_path / "aside")
    (tmp_path / "jobs" / "resnet" / "inside").symlink_to(elsewhere)
    with pytest.raises(JobError, match="resnet"):
        Inside(tmp_path, "resnet", None)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.root
def test_somebody_elses_directory_is_not_used(tmp_path: Path) -> None:
    """Root serves the socket of a user's job, and only from a directory of root's own."""
    Inside(tmp_path, "resnet", (65534, 65534)).close()
    outer = tmp_path / "jobs" / "resnet"
    assert (outer.stat().st_uid, (outer / "inside").stat().st_uid) == (65534, 0)
    os.chown(outer / "inside", 65534, 65534)
    with pytest.raises(JobError, match="belongs to uid 65534"):
        Inside(tmp_path, "resnet", (65534, 65534))
