"""An attached command at a real terminal: Ctrl-C asks, a second one lets go, a hang-up detaches."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Spotwatch
from tests.cli.fake_daemon import FakeDaemon, job_document

JOB = "/v1/jobs/resnet"


class Terminal:
    """A command whose controlling terminal is ours."""

    def __init__(self, directory: Path, environment: dict[str, str], *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.screen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spotwatchd.cli.main", *words],
            cwd=directory,
            env={**environment, "SPOTWATCH_SOCKET": str(directory / "s.sock")},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
        )
        os.close(theirs)
        os.set_blocking(self.ours, False)

    def shows(self, text: str) -> bool:
        """Whether it is on the screen by now."""
        try:
            while got := os.read(self.ours, 4096):
                self.screen += got
        except OSError:
            pass  # nothing more for now, or the command has ended
        return text.encode() in self.screen

    def close(self) -> None:
        if self.ours >= 0:
            os.close(self.ours)
        self.ours = -1


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(short_dir: Path, environment: dict[str, str], fake: FakeDaemon) -> Iterator[Open]:
    """Opens terminals with `run` or `attach` in them."""
    fake.answers["/v1/jobs"] = (201, job_document("resnet"))
    fake.answers[JOB] = (200, job_document("resnet", attempt=1))
    opened: list[Terminal] = []

    def begin(command: str) -> Terminal:
        run = ("run", "--name", "resnet", "--checkpoint-dir", "ckpt", "--", "true")
        words = run if command == "run" else ("attach", "resnet")
        opened.append(Terminal(short_dir, environment, *words))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("command", ["run", "attach"])
def test_ctrl_c_asks_and_a_second_one_lets_go(
    fake: FakeDaemon, terminal: Open, until: Callable[..., None], command: str
) -> None:
    """The first asks the job to save and stop and says what a second one does; that one does it."""
    shown = terminal(command)
    until(lambda: fake.listeners == 1, "it listens")
    os.write(shown.ours, b"\x03")
    until(lambda: shown.shows("Ctrl-C again leaves it running"), "it says what a second one does")
    until(lambda: len(fake.posted(JOB + "/stop")) == 1, "the job is asked")
    assert shown.process.poll() is None
    os.write(shown.ours, b"\x03")
    until(lambda: shown.shows("goes on without this terminal"), "it says that it lets go")
    assert shown.process.wait(20) == 130
    assert len(fake.posted(JOB + "/stop")) == 1


@pytest.mark.parametrize("command", ["run", "attach"])
def test_a_closed_terminal_detaches(
    fake: FakeDaemon, terminal: Open, until: Callable[..., None], command: str
) -> None:
    """The connection is lost: the command ends, and nobody asks the job anything."""
    shown = terminal(command)
    until(lambda: fake.listeners == 1, "it listens")
    shown.close()
    assert shown.process.wait(20) == 129
    assert fake.posted(JOB + "/stop") == []


def test_attach_to_what_is_over(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """It says how it ended and returns the job's status."""
    over = job_document("resnet", life="done", state="crashed", outcome="crashed", exit_status=3)
    fake.answers[JOB] = (200, over)
    done = spotwatch("attach", "resnet")
    assert (done.returncode, done.stderr) == (3, "resnet  already crashed\n")


def test_logs_leave_out_what_was_not_kept(
    fake: FakeDaemon, spotwatch: Spotwatch, short_dir: Path
) -> None:
    """A hole in the middle of the output is said, not printed."""
    log = short_dir / "attempt-000001" / "output.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.write(b"begin\n" + b"x" * 4090)
        file.seek(1 << 20)
        file.write(b"end\n")
    fake.answers[JOB] = (200, job_document("resnet", attempt=1, output=str(log)))
    said = spotwatch("logs", "resnet").stdout
    assert said.startswith("begin\n")
    assert said.endswith(f"\n[... {(1 << 20) - 4096} bytes of output were not kept ...]\nend\n")
    assert "\0" not in said
