"""Who is at the other end of a connection, as the kernel says.

SO_PEERCRED holds pid, uid and gid from the moment of connect(); what the caller writes in a
body never counts. The kernel translates them into the *daemon's* namespaces: root inside a
container with a user namespace arrives here as the host's uid that it is mapped to (65534
when it is mapped to none), never as 0, and a process outside the daemon's pid namespace
arrives with pid 0. Root of a container *without* a user namespace is the host's root: for
containers there is a socket per job, and over that the uid decides nothing.

The identity belongs to the connection: a child that inherits an open connection speaks in
the name of the process that made it. Clients open their own (wire/http.py: one per call).

A pid may be reused, a pidfd cannot. Linux 6.5 and later hand out the peer's pidfd with
SO_PEERPIDFD. Before that we open one by pid and make sure that it is still the same process:
same start time as when the connection arrived, a user that fits, and alive after we looked.
What remains is a pid reused between connect() and accept() by the same user, who may
register any of their processes anyway.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path

from spotwatchd.control.desk import Peer
from spotwatchd.control.problems import Problem

# include/uapi/asm-generic/socket.h; Python's socket module does not name it.
SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("iII")
# Field 22 of /proc/PID/stat, counted after the command in parentheses, which ends field 2.
_START_TIME = 22 - 3


def supports_peerpidfd() -> bool:
    """True when this kernel knows SO_PEERPIDFD."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            os.close(ours.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
    return True


def start_time(pid: int) -> int:
    """Start time of ``pid`` in clock ticks after boot, 0 when it is gone or not to be seen."""
    stat = _read_proc(pid, "stat")
    # The command may hold spaces and parentheses: what counts starts after the last one.
    fields = stat.rpartition(b")")[2].split()
    return int(fields[_START_TIME]) if len(fields) > _START_TIME else 0


def _users(pid: int) -> set[int]:
    """The real, effective, saved and file system uid of ``pid``."""
    for line in _read_proc(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return {int(each) for each in line.split()[1:]}
    return set()


def _read_proc(pid: int, name: str) -> bytes:
    if pid <= 0:
        return b""
    try:
        # procfs answers from memory: this does not wait for a disk. O_NONBLOCK says so.
        fd = os.open(Path("/proc", str(pid), name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError:
        return b""


class Caller:
    """The peer of one connection. Make it when the connection is accepted.

    Attributes:
        pid: at connect time, 0 outside the daemon's pid namespace.
        uid: effective user at connect time; decides what may be seen and changed.
        gid: effective group at connect time.
        only: the one job that it may speak of, because it came over that job's own socket;
            None: what its uid may.
    """

    def __init__(
        self, connection: socket.socket, *, peerpidfd: bool, only: str | None = None
    ) -> None:
        """Read the credentials of ``connection``; ``peerpidfd`` as the kernel supports it."""
        self.only = only
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, self.gid = _CREDENTIALS.unpack(raw)
        self._connection = connection
        self._peerpidfd = peerpidfd
        self._started = 0 if peerpidfd else start_time(self.pid)

    def peer(self) -> Peer:
        """The caller for the desk; ``started`` is 0 when the process has gone since."""
        started = self._started or start_time(self.pid)
        return Peer(self.pid, self.uid, self.gid, started, inside=self.only is not None)

    def pidfd(self) -> tuple[Peer, int]:
        """The caller and a pidfd of it, which the receiver owns and closes.

        Raises:
            Problem: 410 when the process has ended, 422 when it cannot be identified, 503 when
                the daemon is out of files.
        """
        fd = self._open()
        try:
            peer = self.peer()
            self._check_alive(fd)
        except BaseException:
            os.close(fd)
            raise
        return peer, fd

    def _open(self) -> int:
        try:
            if self._peerpidfd:
                return self._connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
            return os.pidfd_open(self.pid)
        except OSError as error:
            raise _unidentified(self.pid, error) from error

    def _check_alive(self, fd: int) -> None:
        # After the look at /proc: alive now means that it was this process we looked at.
        if _ended(fd) or not (self._peerpidfd or self._same()):
            raise _gone(self.pid)

    def _same(self) -> bool:
        now = start_time(self.pid)
        return now != 0 and now == self._started and self.uid in _users(self.pid)


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _gone(pid: int) -> Problem:
    return Problem(
        410,
        "process-gone",
        f"the process that connected (pid {pid}) has ended",
        remedy="register from the training process itself, on a connection of its own",
    )


def _unidentified(pid: int, error: OSError) -> Problem:
    # Before Linux 6.16 a reaped peer gives ESRCH or EINVAL instead of its pidfd.
    if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENODATA) and pid > 0:
        return _gone(pid)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Problem(
            503,
            "out-of-files",
            "spotwatchd has no file descriptor left",
            remedy="raise LimitNOFILE= in the unit and restart spotwatchd",
        )
    return Problem(
        422,
        "process-unknown",
        f"the process that connected (pid {pid}) cannot be identified: {error.strerror}",
        remedy="run spotwatchd in the pid namespace of the job's machine, not in a container",
    )
