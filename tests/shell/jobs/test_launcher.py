"""Attempts below a real shim: how they end, what is left of them, and who sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spotwatchd.errors import JobError
from spotwatchd.jobs import leftovers, pidfd, shim
from spotwatchd.jobs.launcher import ChildLauncher, Order, private_directory, recorded_status
from spotwatchd.jobs.spawn import account
from spotwatchd.rehearsal import tree
from spotwatchd.rehearsal.machine import wait_for


def _order(root: Path, script: str, *, attempt: int = 1, ask: int | None = None) -> Order:
    return Order(
        job="job",
        attempt=attempt,
        argv=["/bin/sh", "-c", script],
        cwd=str(root),
        env={"PATH": os.environ["PATH"]},
        who=account(os.geteuid()),
        directory=root / "jobs" / "job" / f"attempt-{attempt:06d}",
        grace=0.5,
        ask_signal=ask,
    )


async def _start(launcher: ChildLauncher, order: Order) -> asyncio.Future[int | None]:
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    await launcher.start(order, ended.set_result)
    return ended


def _wait_for_text(path: Path, text: str) -> None:
    wait_for(lambda: path.exists() and text in path.read_text(), f"{text!r} in {path}", 40)


async def _appears(path: Path, text: str) -> None:
    await asyncio.to_thread(_wait_for_text, path, text)


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", -9), ("exec no-such-program-here", 127)],
)
async def test_the_exit_status_is_recorded(tmp_path: Path, script: str, status: int) -> None:
    """A program's end is told to whoever started it, and lies on disk for a daemon to come."""
    order = _order(tmp_path, script)
    assert await (await _start(ChildLauncher(), order)) == status
    assert await asyncio.to_thread(recorded_status, order.directory) == status


async def test_output_goes_to_a_file_of_the_attempt(tmp_path: Path) -> None:
    """Both streams of the program end up in output.log."""
    order = _order(tmp_path, "echo out; echo err >&2")
    await (await _start(ChildLauncher(), order))
    assert (order.directory / "output.log").read_text().split() == ["out", "err"]


async def test_no_descendant_survives_the_program(tmp_path: Path) -> None:
    """A grandchild in a session of its own that ignores SIGTERM is gone when the job is."""
    marker = tmp_path / "pid"
    script = f"setsid sh -c 'trap \"\" TERM; echo $$ > {marker}; sleep 300' & "
    script += f"while ! test -s {marker}; do sleep 0.01; done; exit 4"
    assert await (await _start(ChildLauncher(), _order(tmp_path, script))) == 4
    assert tree.command(int(marker.read_text())) == ""


async def test_stop_ends_a_program_that_ignores_it(tmp_path: Path) -> None:
    """SIGTERM first; SIGKILL once the grace is over."""
    launcher, order = ChildLauncher(), _order(tmp_path, "trap '' TERM; echo up; sleep 300")
    ended = await _start(launcher, order)
    await _appears(order.directory / "output.log", "up")
    launcher.stop("job")
    assert await ended == -signal.SIGKILL


async def test_the_ask_reaches_the_program_as_its_signal(tmp_path: Path) -> None:
    """An unmodified program gets the signal it was registered with, and goes on living."""
    script = "trap 'echo asked' USR1; echo up; while :; do sleep 0.02; done"
    launcher, order = ChildLauncher(), _order(tmp_path, script, ask=signal.SIGUSR1)
    ended = await _start(launcher, order)
    await _appears(order.directory / "output.log", "up")
    launcher.ask("job")
    await _appears(order.directory / "output.log", "asked")
    assert not ended.done()
    launcher.stop("job")
    assert await ended == -signal.SIGTERM


async def test_a_second_attempt_beside_the_first_is_refused(tmp_path: Path) -> None:
    """Two attempts of one job on one machine: the second ends at once and runs nothing."""
    launcher, first = ChildLauncher(), _order(tmp_path, "echo up; sleep 300")
    ended = await _start(launcher, first)
    await _appears(first.directory / "output.log", "up")
    second = _order(tmp_path, "echo must not run", attempt=2)
    assert await (await _start(ChildLauncher(), second)) is None
    assert "another attempt" in (second.directory / "output.log").read_text()
    launcher.stop("job")
    await ended


async def test_a_later_daemon_adopts_what_runs(tmp_path: Path) -> None:
    """A launcher that knows nothing finds the attempt, sees its end and its status."""
    first, order = ChildLauncher(), _order(tmp_path, "echo up; read x < go; exit 6")
    os.mkfifo(tmp_path / "go")
    ended = await _start(first, order)
    await _appears(order.directory / "output.log", "up")
    await first.close()
    later = ChildLauncher()
    seen: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    assert await later.adopt("job", order.directory, seen.set_result)
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    assert await seen == 6
    assert not ended.done()


async def test_nothing_is_adopted_after_the_end(tmp_path: Path) -> None:
    """An attempt that ended while no daemon looked is not adopted; its status is there."""
    order = _order(tmp_path, "exit 9")
    await (await _start(ChildLauncher(), order))
    assert not await ChildLauncher().adopt("job", order.directory, lambda _: None)
    assert await asyncio.to_thread(recorded_status, order.directory) == 9


async def test_a_killed_shim_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGKILL of the shim: what it held is ended, and the status is unknown rather than wrong."""
    launcher, order = ChildLauncher(), _order(tmp_path, "echo up; sleep 300 & sleep 300")
    ended = await _start(launcher, order)
    await _appears(order.directory / "output.log", "up")
    recorded = (order.directory / "shim.json").read_text()
    os.kill(int(recorded.split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    assert await ended is None
    assert await asyncio.to_thread(leftovers.find, order.directory) == []


async def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    """What cannot be started says what, where and how to mend it."""
    order = _order(tmp_path, "true")
    missing = Order(**{**vars(order), "cwd": str(tmp_path / "gone")})
    with pytest.raises(JobError) as caught:
        await ChildLauncher().start(missing, lambda _: None)
    assert caught.value.where == str(tmp_path / "gone")
    assert caught.value.remedy


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "0"}', '{"status": 1', "\x00"])
def test_a_forged_exit_record_is_no_status(tmp_path: Path, content: str) -> None:
    """The record lies in the user's directory: whatever is in it cannot hurt."""
    (tmp_path / "exit.json").write_text(content)
    assert recorded_status(tmp_path) is None


def test_an_exit_record_is_not_read_through_a_link(tmp_path: Path) -> None:
    """A link to somebody else's file is not followed."""
    (tmp_path / "real").write_text('{"status": 0}')
    (tmp_path / "exit.json").symlink_to(tmp_path / "real")
    assert recorded_status(tmp_path) is None


def test_a_reused_pid_is_not_mistaken() -> None:
    """The start time decides, not the number."""
    started = shim.start_ticks(os.getpid())
    fd = pidfd.open_checked(os.getpid(), started)
    assert fd is not None
    os.close(fd)
    assert pidfd.open_checked(os.getpid(), started + 1) is None


async def test_the_job_s_python_settings_do_not_reach_the_shim(tmp_path: Path) -> None:
    """A PYTHONHOME or PYTHONPATH that would break an interpreter breaks only the program's own."""
    order = _order(tmp_path, "echo $PYTHONHOME")
    broken = Order(**{**vars(order), "env": {**order.env, "PYTHONHOME": "/nowhere"}})
    assert await (await _start(ChildLauncher(), broken)) == 0
    assert (order.directory / "output.log").read_text() == "/nowhere\n"


def test_a_long_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    """Of 24 MB about 2 MB stay on disk, every line of the end is whole, and nobody was slowed."""
    directory = tmp_path / "attempt-000001"
    directory.mkdir()
    lines = "for n in range(240_000): print(f'{n:06d} ' + 'x' * 92)"
    script = f"import time\n{lines}\ntime.sleep(0.6)\nfor n in range(9): print('end', n)"
    argv = [sys.executable, "-I", "-S", shim.__file__, "--directory", str(directory)]
    argv += ["--grace", "1", "--keep-output", str(2 << 20), "--", sys.executable, "-c", script]
    log = directory / "output.log"
    with log.open("ab") as output:
        subprocess.run(argv, stdout=output, stderr=output, check=True, timeout=50)
    written = log.stat()
    assert written.st_size > 24_000_000
    assert written.st_blocks * 512 < 8_000_000
    text = log.read_bytes()
    assert text.startswith(b"000000 xxx")
    kept = text[-(1 << 20) :].splitlines()
    assert kept[-1] == b"end 8"
    assert all(len(line) == 99 for line in kept[1:-9])


def test_only_the_newest_attempts_stay(tmp_path: Path) -> None:
    """A job that crashes for ever does not fill the disk with its logs."""
    for number in range(1, 31):
        (tmp_path / f"attempt-{number:06d}").mkdir()
    shim.forget_old_attempts(tmp_path / "attempt-000030")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"attempt-{number:06d}" for number in range(21, 31)]


@pytest.mark.root
@pytest.mark.parametrize("planted", ["directory", "output", "second name", "pipe"])
async def test_what_a_user_planted_is_not_followed(tmp_path: Path, planted: str) -> None:
    """The job's directory is theirs: a link to root's files there makes them nobody else's."""
    order = replace(_order(tmp_path, "echo said"), who=account(65534))
    target = tmp_path / "of-root"
    await asyncio.to_thread(_plant, order, target, planted)
    before = target.stat()
    with pytest.raises(JobError, match="cannot use"):
        await ChildLauncher().start(order, lambda _status: None)
    after = target.stat()
    assert (after.st_uid, after.st_mode, after.st_size) == (0, before.st_mode, before.st_size)
    assert not target.is_dir() or list(target.iterdir()) == []


def _plant(order: Order, target: Path, planted: str) -> None:
    """What the job's user may do before the attempt begins."""
    private_directory(order.directory.parent, order.who)
    if planted == "directory":
        target.mkdir(mode=0o755)
        order.directory.symlink_to(target)
        return
    target.write_text("")
    private_directory(order.directory, order.who)
    output = order.directory / "output.log"
    if planted == "output":
        output.symlink_to(target)
    elif planted == "second name":
        output.hardlink_to(target)
    else:
        os.mkfifo(output)
