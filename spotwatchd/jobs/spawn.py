"""Starting a process as the job's user, detached from the daemon."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.errors import JobError


@dataclass(frozen=True)
class Account:
    """Who a process runs as.

    Attributes:
        uid, gid: numeric ids.
        groups: supplementary groups, from the user database.
        name: login name, or the number when there is no such entry.
        home: home directory, or "/".
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def account(uid: int, gid: int | None = None) -> Account:
    """Look up ``uid``; an unknown one keeps ``gid`` (default: same number) and no groups."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, uid if gid is None else gid, (), str(uid), "/")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir)


def spawn(
    argv: Sequence[str],
    who: Account,
    *,
    cwd: str,
    env: Mapping[str, str],
    output: Path,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` as ``who`` in a session of its own, output appended to ``output``.

    Raises JobError when it cannot be started or the daemon may not become ``who``.
    """
    if who.uid != os.geteuid() and os.geteuid() != 0:
        raise JobError(
            f"cannot start a process of {who.name}: this daemon runs as uid {os.geteuid()}",
            remedy="run spotwatchd as root, or submit the job as the daemon's own user",
        )
    switch = who.uid != os.geteuid()
    fd = _open_output(output)
    try:
        if switch:
            os.fchown(fd, who.uid, who.gid)
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            user=who.uid if switch else None,
            group=who.gid if switch else None,
            extra_groups=list(who.groups) if switch else None,
        )
    except OSError as error:
        raise JobError(
            f"cannot start {argv[0]}: {error.strerror or error}",
            where=str(error.filename or cwd),
            remedy="check that the path exists on this machine and is accessible to the user",
        ) from error
    finally:
        os.close(fd)


def _open_output(path: Path) -> int:
    """Open a file in a directory that may be the job's user's, who may have put a link there."""
    only = os.O_NOFOLLOW | os.O_CLOEXEC
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | only  # a pipe would block us
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | only)
        try:
            fd = os.open(path.name, flags, 0o600, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise in_the_way(path, error.strerror or str(error)) from error
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        os.close(fd)
        raise in_the_way(path, "not a file with one name")
    return fd


def in_the_way(path: Path, why: str) -> JobError:
    """The refusal of something that somebody has put in our place."""
    return JobError(
        f"cannot use {path}: {why}", where=str(path), remedy="move away what is in its place"
    )


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Forget a child that outlives us on purpose: subprocess would warn that nobody waited."""
    if process.poll() is None:
        process.returncode = 0
