"""Starting a process as the job's user, detached from the daemon."""

from __future__ import annotations

import os
import pwd
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
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
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


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Forget a child that outlives us on purpose: subprocess would warn that nobody waited."""
    if process.poll() is None:
        process.returncode = 0
