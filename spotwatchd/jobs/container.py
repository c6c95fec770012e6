"""A container that a job runs in, seen from the host: its cgroup, its pid namespace, its end.

No container engine is asked. What it starts is no descendant of its client (``docker run`` is
a child of ours, the program a child of the engine's), so a process that registers over its
job's own socket tells by its own /proc what else belongs to it:

* its cgroup, where that is the container's alone: every process in it is in a pid namespace
  below ours, or the cgroup has an engine's name (the id of a container, 64 hex digits), and we
  are not in it ourselves. A cgroup shared with a login session is never ended;
* its pid namespace, which ends with everything in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
# docker-ID.scope, /docker/ID, libpod-ID.scope, cri-containerd-ID.scope ...
_ENGINE = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass
class Container:
    """What is known of one.

    Attributes:
        cgroup: its directory, None where it has none of its own.
        namespace: inode of its pid namespace, 0 where we may not look.
        fd: keeps that namespace, or its number could be another's later; -1 for none.
    """

    cgroup: Path | None
    namespace: int = 0
    fd: int = -1
    # By pid: start time. One that is about to end is in no cgroup and no namespace any more.
    _seen: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def members(self) -> list[int]:
        """Processes of it that live. What the kernel does not show us is not among them."""
        found = set() if self.cgroup is None else set(_in_cgroup(self.cgroup))
        if self.namespace:
            found |= {pid for pid in _processes() if _namespace(pid) == self.namespace}
        self._seen |= {pid: _begun(pid) for pid in found}
        self._seen = {pid: at for pid, at in self._seen.items() if at and _begun(pid) == at}
        return sorted(self._seen)

    def send(self, number: int) -> list[int]:
        """Signal all of it. Returns those that we may not signal."""
        if number == signal.SIGKILL and self._kill_cgroup():
            return []
        return [pid for pid in self.members() if not _send(pid, number)]

    def _kill_cgroup(self) -> bool:
        """All at once, forks under way included (Linux 5.14, cgroup v2)."""
        if self.cgroup is None:
            return False
        try:
            (self.cgroup / "cgroup.kill").write_text("1")
        except OSError:
            return False
        return not self.namespace or not self.members()

    def close(self) -> None:
        """Forget it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def recognise(pid: int) -> Container | None:
    """The container that ``pid`` runs in; None when it is in none, or is not to be seen."""
    depth = _depth(pid)
    cgroup = _own_cgroup(pid)
    if depth <= _depth(os.getpid()) and cgroup is None:
        return None
    namespace, fd = 0, -1
    if depth > _depth(os.getpid()):
        with contextlib.suppress(OSError):
            fd = os.open(_PROC / str(pid) / "ns" / "pid", os.O_RDONLY | os.O_CLOEXEC)
            namespace = os.fstat(fd).st_ino
    return Container(cgroup, namespace, fd)


def _own_cgroup(pid: int) -> Path | None:
    """The directory of the cgroup that only its container is in."""
    ours, theirs = _cgroups("self"), _cgroups(str(pid))
    for hierarchy, path in theirs.items():
        mine = ours.get(hierarchy, "/")
        if path.startswith("/..") or f"{mine}/".startswith(f"{path.rstrip('/')}/"):
            continue  # outside of what we see, or we are in it
        directory = _directory(hierarchy, path)
        if directory is not None and (_ENGINE.search(path) or _all_contained(directory)):
            return directory
    return None


def _cgroups(pid: str) -> dict[str, str]:
    """Path by hierarchy ("" is v2), v2 first: cgroups(7), /proc/PID/cgroup."""
    found: dict[str, str] = {}
    for line in _read(_PROC / pid / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        found["" if number == "0" else names] = path
    return dict(sorted(found.items()))


def _directory(hierarchy: str, path: str) -> Path | None:
    """Where the cgroup lies: proc_pid_mountinfo(5)."""
    wanted = {name for name in hierarchy.split(",") if name}
    for line in _read(_PROC / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split()[3:5]
        kind, _, options = after.split()[:3]
        fits = kind == ("cgroup" if wanted else "cgroup2")
        if not fits or not wanted <= set(options.split(",")):
            continue
        inside = path.removeprefix(root.rstrip("/")) if root != "/" else path
        found = Path(place + inside)
        if found.is_dir():
            return found
    return None


def _all_contained(cgroup: Path) -> bool:
    members, depth = _in_cgroup(cgroup), _depth(os.getpid())
    return bool(members) and all(_depth(pid) > depth for pid in members if _begun(pid))


def _in_cgroup(directory: Path) -> list[int]:
    found: list[int] = []
    # Not rglob: it raises where a cgroup goes away meanwhile, as they do when a container ends.
    for folder, _, _ in os.walk(directory):
        found += [int(word) for word in _read(Path(folder, "cgroup.procs")).split()]
    return [pid for pid in dict.fromkeys(found) if pid > 0]  # 0: outside of our pid namespace


def _depth(pid: int) -> int:
    """How many pid namespaces below ours it is, plus one; 0 when it is not to be seen."""
    for line in _read(_PROC / str(pid) / "status").splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) - 1
    return 0


def _namespace(pid: int) -> int:
    try:
        return (_PROC / str(pid) / "ns" / "pid").stat().st_ino
    except OSError:
        return 0


def _processes() -> list[int]:
    return [int(each.name) for each in _PROC.iterdir() if each.name.isdecimal()]


def _begun(pid: int) -> str:
    """When it began, "" when it does not run: field 22 of /proc/PID/stat.

    A zombie runs nothing, and whoever is its parent may take its time.
    """
    fields = _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
