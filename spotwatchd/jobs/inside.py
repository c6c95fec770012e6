"""A directory per job that can be mounted into its container: the job's socket, the job's board.

    RUNTIME/jobs/NAME/          0700, of the job's user: who may get here on this machine
    RUNTIME/jobs/NAME/inside/   0755, of the daemon's: what is mounted; in a container a uid
                                may be mapped to any other, so in here no uid is asked for

The outer one belongs to the job's user, who may rename what is in it. So everything is reached
through a descriptor of the inner one, which is the daemon's own or is not used at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from spotwatchd.errors import JobError

_NAME = "inside"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Inside:
    """The directory of one job.

    Attributes:
        path: what to mount, and where the job's processes find it on this machine.
        fd: of it.
    """

    def __init__(self, runtime: Path, name: str, owner: tuple[int, int] | None) -> None:
        """Make it, or open it again.

        Args:
            runtime: the daemon's runtime directory; it exists.
            name: of the job.
            owner: uid and gid of the job's user; None when that is the daemon's own.

        Raises:
            JobError: it cannot be made, or is somebody else's.
        """
        self.path = runtime / "jobs" / name / _NAME
        try:
            # Others pass through, and do not see which jobs there are.
            (runtime / "jobs").mkdir(mode=0o711, parents=True, exist_ok=True)
            self.fd = _open(self.path.parent, owner)
        except OSError as error:
            raise _unusable(name, self.path, error.strerror or str(error)) from error

    @property
    def through(self) -> Path:
        """The same directory by a path that nobody can redirect."""
        return Path(f"/proc/self/fd/{self.fd}")

    def remove(self) -> None:
        """Delete it, and forget it."""
        self.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def close(self) -> None:
        """Forget it; what is in it stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _open(outer: Path, owner: tuple[int, int] | None) -> int:
    with contextlib.suppress(FileExistsError):
        outer.mkdir(mode=0o700)
    outside = os.open(outer, _FLAGS)
    try:
        os.fchmod(outside, 0o700)
        if owner is not None:
            os.fchown(outside, *owner)
        with contextlib.suppress(FileExistsError):
            os.mkdir(_NAME, mode=0o755, dir_fd=outside)
        return _ours(os.open(_NAME, _FLAGS, dir_fd=outside))
    finally:
        os.close(outside)


def _ours(fd: int) -> int:
    try:
        _check_owner(os.fstat(fd).st_uid)
        os.fchmod(fd, 0o755)  # the umask took its share
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_owner(uid: int) -> None:
    if uid != os.geteuid():
        raise PermissionError(0, f"it belongs to uid {uid}")


def _unusable(name: str, path: Path, why: str) -> JobError:
    return JobError(
        f"the directory of job {name} cannot be used: {why}",
        where=str(path),
        remedy=f"remove {path.parent}; spotwatchd makes it",
    )
