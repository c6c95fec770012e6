"""The parent of one attempt of a job: ``python -m spotwatchd.jobs.shim``.

It runs as the job's user, outlives the daemon, and does three things the daemon cannot
do when it is down: it records how the program ended, it keeps descendants from escaping
(it is their subreaper), and it ends them all when the program is over or a stop is asked.

Signals it understands:

    SIGTERM     end the program: SIGTERM to every descendant, SIGKILL after ``--grace``
    SIGRTMIN+1  pass on the signal that asks the program to save (``--ask-signal``)

The program writes into its log file itself: no pipe that somebody must empty, so nothing that
dies or is slow here ever holds it up. So that the file does not fill the disk, the middle of
it is given back to the file system (a hole) while it grows: the beginning and the newest part
stay, no line is copied, and none is lost between two files.

Standard library only, and nothing from the daemon: it must start fast and never break.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

ASK = signal.SIGRTMIN + 1
# <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
# Time for descendants of a program that ended by itself; nobody waits for them on purpose.
_LEFTOVER_GRACE = 5.0
# Bytes of a log that stay: how the program began, and what it said last.
_HEAD = 1 << 20
KEEP = 64 << 20
# <linux/falloc.h>
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_BLOCK = 4096
# Attempts of which this machine keeps the output.
_ATTEMPTS = 10
_NOT_FOUND, _NOT_EXECUTABLE, _ALREADY_RUNNING = 127, 126, 125
_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def _write_atomically(path: Path, document: dict[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def start_ticks(pid: int) -> int:
    """Start time of ``pid`` in clock ticks after boot: field 22 of /proc/PID/stat, proc(5)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The command in field 2 may contain anything, parentheses included; it ends at the last one.
    return int(stat.rpartition(")")[2].split()[19])


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass  # it ended while we looked
    return found


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = _children(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += _children(child)
    return found


class Output:
    """Bounds a log file that somebody else writes to the end of."""

    def __init__(self, fd: int, keep: int) -> None:
        self._fd = fd
        self._head = min(_HEAD, keep // 4) // _BLOCK * _BLOCK
        self._tail = keep - self._head
        self._hole = self._head
        self._bounded = stat.S_ISREG(os.fstat(fd).st_mode)

    def trim(self) -> None:
        """Give back what lies between the first and the newest part. Never raises."""
        if not self._bounded:
            return
        end = (os.fstat(self._fd).st_size - self._tail) // _BLOCK * _BLOCK
        # Seldom: a quarter of what is kept must have come since the last time.
        if end - self._hole < self._tail // 4:
            return
        offset, size = ctypes.c_int64(self._hole), ctypes.c_int64(end - self._hole)
        how = _KEEP_SIZE | _PUNCH_HOLE
        if ctypes.CDLL(None, use_errno=True).fallocate(self._fd, how, offset, size) != 0:
            self._bounded = False  # this file system cannot; then all of it stays
            return
        self._hole = end


def forget_old_attempts(directory: Path) -> None:
    """Delete the directories of attempts before the newest few. Never raises."""
    attempts = sorted(path for path in directory.parent.glob("attempt-*") if path.is_dir())
    for path in attempts[:-_ATTEMPTS]:
        shutil.rmtree(path, ignore_errors=True)


class Shim:
    """One program, from its start to the exit of its last descendant."""

    def __init__(
        self,
        directory: Path,
        grace: float,
        ask_signal: int | None,
        secrets: tuple[str | None, str | None] = (None, None),
        keep: int = KEEP,
    ) -> None:
        self._output = Output(sys.stdout.fileno(), keep)
        self._directory = directory
        self._secrets = secrets
        self._grace = grace
        self._ask_signal = ask_signal
        self._program: subprocess.Popen[bytes] | None = None
        self._kill_at: float | None = None
        self._status: int | None = None

    def run(self, argv: list[str]) -> int:
        """Run ``argv`` to its end and record how it ended. Returns the shim's own status."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(ASK, self._on_ask)
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        _write_atomically(
            self._directory / "shim.json",
            {"pid": os.getpid(), "started": start_ticks(os.getpid())},
        )
        try:
            self._program = self._spawn(argv, _environment(*self._secrets))
        except ValueError as error:  # of the secrets; its words hold none of them
            self._status = _CONFIGURATION
            print(f"spotwatchd: {error}", file=sys.stderr, flush=True)
        except OSError as error:
            self._status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            print(f"spotwatchd: cannot start {argv[0]}: {error}", file=sys.stderr, flush=True)
        else:
            self._wait_for_all(self._program.pid)
        _write_atomically(
            self._directory / "exit.json", {"status": self._status, "at": time.time()}
        )
        return 0

    def _spawn(self, argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        # A stop that arrives between the fork and our knowing the pid must wait.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, ASK})
        try:
            return subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: _restore_signals(before),  # noqa: PLW1509 - no threads here
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait_for_all(self, program: int) -> None:
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == program:
                self._status = os.waitstatus_to_exitcode(raw)
                self._end_all(_LEFTOVER_GRACE)
            elif pid == 0:
                self._pause()

    def _pause(self) -> None:
        """Wait for a signal (SIGCHLD, SIGTERM, ASK) or the moment to kill."""
        self._output.trim()
        if self._kill_at is None:
            signal.sigtimedwait([signal.SIGCHLD], 0.5)
            return
        left = self._kill_at - time.monotonic()
        if left <= 0:
            self._signal_all(signal.SIGKILL)
            left = 0.2
        signal.sigtimedwait([signal.SIGCHLD], min(left, 0.5))

    def _signal_all(self, number: int) -> None:
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _end_all(self, grace: float) -> None:
        self._signal_all(signal.SIGTERM)
        due = time.monotonic() + grace
        self._kill_at = due if self._kill_at is None else min(due, self._kill_at)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._end_all(self._grace)

    def _on_ask(self, _number: int, _frame: FrameType | None) -> None:
        program = self._program
        if self._ask_signal is not None and program is not None and self._status is None:
            try:
                os.kill(program.pid, self._ask_signal)
            except ProcessLookupError:
                return


def _environment(file: str | None, command: str | None) -> dict[str, str]:
    """The program's environment: ours, and the secrets, which are nowhere else.

    Raises ValueError.
    """
    if file is None and command is None:
        return dict(os.environ)
    # By its path: this process is isolated from the package that it is a part of.
    source = Path(__file__).resolve().parent.parent / "wire" / "envfile.py"
    load = runpy.run_path(str(source))["load"]
    return {**os.environ, **load(file, command, dict(os.environ))}


def _restore_signals(mask: set[signal.Signals | int]) -> None:
    for number in (signal.SIGTERM, ASK, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask - {signal.SIGCHLD})


def _lock(path: Path) -> int | None:
    """Hold the job's lock for our life: never two attempts of one job on one machine."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="spotwatchd-shim")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--ask-signal", type=int)
    parser.add_argument("--keep-output", type=int, default=KEEP)
    parser.add_argument("--env-file")
    parser.add_argument("--env-command")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    lock = _lock(options.directory.parent / "attempt.lock")
    if lock is None:
        print("spotwatchd: another attempt of this job is still running", file=sys.stderr)
        return _ALREADY_RUNNING
    # Without it sigtimedwait would miss a child that ends between waitpid and the wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    forget_old_attempts(options.directory)
    secrets = (options.env_file, options.env_command)
    shim = Shim(options.directory, options.grace, options.ask_signal, secrets, options.keep_output)
    return shim.run(options.argv)


if __name__ == "__main__":
    sys.exit(main())
