"""The listening socket: ours alone, never open wider than asked, or handed over by systemd.

A lock file beside the socket decides who is the daemon here: two that start together
cannot both find the socket stale and take it from each other. The kernel drops the lock
with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

from spotwatchd.errors import ConfigError

# sun_path of unix(7) has 108 bytes, the last one a NUL.
LONGEST_PATH = 107


class Listener:
    """A listening Unix socket.

    Attributes:
        socket: bound, listening, not blocking.
    """

    def __init__(
        self, listening: socket.socket, *, path: Path | None = None, lock: int | None = None
    ) -> None:
        """Own ``listening``; with a ``path`` also the file, with a ``lock`` also that."""
        self.socket = listening
        self._path = path
        self._lock = lock
        self._inode = _inode(path) if path is not None else None

    def close(self) -> None:
        """Stop listening, remove the file if it still is ours, give up the lock."""
        self.socket.close()
        if self._path is not None and _inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def adopt(fd: int) -> Listener:
    """The listening socket that systemd passed as ``fd``. Its file is systemd's business.

    Raises:
        ConfigError: it is not a listening Unix stream socket.
    """
    try:
        given = socket.socket(fileno=fd)
    except OSError as error:
        raise _not_ours(fd, str(error.strerror)) from error
    fine = given.family == socket.AF_UNIX and given.type == socket.SOCK_STREAM
    if not fine or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.detach()
        raise _not_ours(fd, "it is not a listening Unix stream socket")
    given.setblocking(False)
    os.set_inheritable(fd, False)
    return Listener(given)


def _not_ours(fd: int, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot listen on file descriptor {fd}: {reason}",
        where="LISTEN_FDS",
        remedy="set ListenStream=/run/spotwatchd/spotwatchd.sock in spotwatchd.socket",
    )


def bind(path: Path, *, mode: int, backlog: int) -> Listener:
    """Listen on ``path``; a socket left there by a dead daemon is replaced.

    Args:
        path: absolute; its directory is made when missing (0700 for a ``mode`` without bits
            for others, else 0755).
        mode: permission bits of the socket, e.g. 0o666: who may connect. What they may do
            their credentials decide.
        backlog: connections that may wait to be accepted.

    Raises:
        ConfigError: another daemon is there, the file is not a socket, the directory is
            missing rights or belongs to somebody else, the path is too long.
    """
    _check_length(path)
    try:
        _make_directory(path.parent, 0o755 if mode & 0o077 else 0o700)
        lock = _lock(path)
        try:
            _remove_stale(path)
            listening = bind_narrow(path, mode)
            # Linux masks the bits with the umask when it makes the file: give back what is due.
            path.chmod(mode)
            listening.listen(backlog)
            return Listener(listening, path=path, lock=lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {path}: {error.strerror or error}",
            where=str(error.filename or path),
            remedy="choose a directory that the daemon's user may write to",
        ) from error


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ConfigError(
            f"the socket's path is longer than {LONGEST_PATH} bytes",
            where=str(path),
            remedy="choose a shorter one, for example below /run",
        )


def _make_directory(directory: Path, mode: int) -> None:
    """Make ``directory`` and check that nobody else could swap our socket in it."""
    for missing in reversed([directory, *directory.parents]):
        if not missing.exists():
            missing.mkdir(mode=mode)  # masked by the umask: never wider than `mode`
    # Its parent too: /tmp/spotwatchd-UID may have been made by somebody else before us.
    for each in (directory, directory.parent):
        _check_owner(each.resolve())


def _check_owner(directory: Path) -> None:
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{directory} belongs to uid {found.st_uid}, who could replace the socket",
            where=str(directory),
            remedy="remove it, or choose a directory of root or of the daemon's user",
        )
    # The sticky bit of /tmp keeps others from renaming what is ours.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise ConfigError(
            f"everybody may write to {directory} and replace the socket",
            where=str(directory),
            remedy=f"chmod o-w {directory}",
        )


def _lock(path: Path) -> int:
    name = path.with_name(f".{path.name}.lock")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _running(path) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _running(path: Path) -> ConfigError:
    return ConfigError(
        "another spotwatchd is running",
        where=str(path),
        remedy="talk to it (spotwatch status), stop it (systemctl stop spotwatchd), "
        "or give this one another socket",
    )


def _remove_stale(path: Path) -> None:
    """Unlink a socket that nobody answers on. Anything else that is there stays."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            f"{path} exists and is not a socket",
            where=str(path),
            remedy="move it away, or choose another path for the socket",
        )
    if _answers(path):
        raise _running(path)
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its backlog is full: hung perhaps, dead not
        return True


def bind_narrow(path: Path, mode: int) -> socket.socket:
    """A socket bound to ``path`` whose file has at most the bits of ``mode``.

    Linux gives the file the mode of the socket's own inode less the umask (unix_bind in
    net/unix/af_unix.c), so fchmod before bind leaves no moment in which it is wider, and the
    umask, which belongs to all threads, stays as it is.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), mode)
        made.bind(str(path))
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
