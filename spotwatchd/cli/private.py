"""A daemon of one user's own, for machines where none is installed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

from spotwatchd.cli.extra import require_daemon
from spotwatchd.errors import DaemonUnreachable, SpotwatchError
from spotwatchd.wire import http

# Python with the daemon's libraries starts in well under a second; a busy machine takes longer.
START_SECONDS = 10.0


def nobody_there(error: DaemonUnreachable) -> bool:
    """Whether no daemon has the socket, as against one that is slow or breaks off."""
    return isinstance(error.__cause__, (FileNotFoundError, ConnectionRefusedError))


def own_directory(path: Path) -> None:
    """Make a directory that is ours alone, or raise.

    Below /tmp anybody can make the directory first and then read our commands and
    environment as a false daemon, so one that is not ours is refused.

    Raises:
        SpotwatchError: it belongs to somebody else, others may write to it, or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=False, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise SpotwatchError(
            f"the directory of the socket cannot be made: {error.strerror}",
            where=str(path),
            remedy="pass --socket PATH in a directory of your own",
        ) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise SpotwatchError(
            "the directory of the socket is not yours alone",
            where=f"{path} (uid {info.st_uid}, mode {stat.S_IMODE(info.st_mode):04o})",
            remedy="pass --socket PATH in a directory of your own, or set XDG_RUNTIME_DIR",
        )


def start(socket: str) -> None:
    """Start a private daemon and wait until it answers.

    Raises:
        SpotwatchError: it cannot run here, or does not answer within ``START_SECONDS``.
    """
    require_daemon("a private spotwatchd")
    directory = Path(socket).parent
    own_directory(directory)
    log = directory / "spotwatchd.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as output:
        begin = output.tell()
        # -P: a types.py in the user's directory must not become a part of the daemon.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "spotwatchd.cli.daemon", "--private", "--socket", socket],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _wait(process, socket, log, begin)
    # It outlives this command on purpose; subprocess would warn about a child not waited for.
    process.returncode = 0


def _wait(process: subprocess.Popen[bytes], socket: str, log: Path, begin: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if _answers(socket):
            return
        if process.poll() is not None:
            raise _failed(f"it ended with status {process.returncode}", log, begin)
        time.sleep(0.05)
    process.terminate()
    raise _failed(f"no answer within {START_SECONDS:g} s", log, begin)


def _answers(socket: str) -> bool:
    try:
        http.request(socket, "GET", "/v1/status", timeout=1.0)
    except DaemonUnreachable:
        return False
    return True


def _failed(why: str, log: Path, begin: int) -> SpotwatchError:
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read(65536).decode("utf-8", "replace").strip().splitlines()
    last = "\n".join(f"  said    {line}" for line in said[-5:])
    return SpotwatchError(
        f"a private spotwatchd could not be started: {why}" + (f"\n{last}" if last else ""),
        where=str(log),
        remedy=f"run it by hand to see more: {sys.executable} -m spotwatchd.cli.daemon --private",
    )
