"""A machine that can be noticed, frozen, killed and replaced."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from spotwatchd.errors import DaemonUnreachable, SpotwatchError
from spotwatchd.rehearsal import init, tree
from spotwatchd.testing import FakeIMDS
from spotwatchd.wire.http import request

# "daemon" of every Linux distribution (LSB: bin, daemon). Its files are not touched: in the
# machine's user namespace this uid stands for whoever rehearses.
_INSTEAD_OF_ROOT = 1

# The package as it runs here, wherever a machine's processes are started from.
_SOURCE = str(Path(__file__).resolve().parent.parent.parent)


def wait_for(condition: Callable[[], Any], what: str, limit: float, *, every: float = 0.02) -> Any:
    """Poll until ``condition`` is true; its value. Raises TimeoutError naming ``what``."""
    end = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:g} s: {what}")
        time.sleep(every)
    return value


def current_user() -> pwd.struct_passwd:
    """The user as whom a machine runs: who rehearses, or for root somebody who is not root.

    Nothing that a store supplies runs as root, so a rehearsal as root would show nothing.
    Raises KeyError for a user without an entry in the user database.
    """
    return pwd.getpwuid(os.geteuid() or _INSTEAD_OF_ROOT)


def _no_namespaces() -> SpotwatchError:
    return SpotwatchError(
        "a machine cannot be rehearsed as root here: the kernel refuses a user namespace",
        where="unshare(CLONE_NEWUSER)",
        remedy="rehearse as an ordinary user, or allow the container to make user namespaces",
    )


def _toml(value: Any) -> str:
    return json.dumps(value)  # strings, numbers, booleans and lists of them are the same


def _configuration(settings: Mapping[str, Any]) -> str:
    flat = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in flat.items()]
    for section, table in settings.items():
        if isinstance(table, dict):
            lines += [f"[{section}]", *(f"{key} = {_toml(each)}" for key, each in table.items())]
    return "\n".join(lines) + "\n"


class Machine:
    """One machine: a disk below ``root``, a daemon, a metadata service.

    Attributes:
        name: in leases and receipts.
        root: everything it stores; deleted by ``destroy``.
        disk: where its jobs keep checkpoints.
        socket: of its daemon.
        imds: its metadata service.
        user: as whom everything on it runs; another than the one who rehearses only for root.
    """

    def __init__(  # noqa: PLR0913 - what a machine is, passed by name
        self,
        name: str,
        root: Path,
        store: str,
        *,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        user: pwd.struct_passwd | None = None,
        own_host: bool = False,
    ) -> None:
        """Describe it; nothing runs before ``boot``.

        Args:
            name: of the machine.
            root: a directory with a short path (a Unix socket's has 107 bytes at most).
            store: URL.
            settings: of the daemon's configuration, over what is chosen here.
            env: added to the environment of the daemon.
            user: None chooses ``current_user()``.
            own_host: it has a host name of its own where the kernel allows that. One with
                another user than who rehearses always has.
        """
        self.name, self.root = name, root
        self.disk = root / "disk"
        self.socket = str(root / "s.sock")
        self.imds = FakeIMDS()
        self.user = user or current_user()
        self._store = store
        self._own_host = own_host
        self._settings = dict(settings or {})
        self._env = {**os.environ, **(env or {}), "PYTHONPATH": _SOURCE}
        self._init: subprocess.Popen[str] | None = None
        self.daemon_pid = 0

    def boot(self) -> Self:
        """Switch it on: process 1, metadata service, daemon. Returns once the socket answers."""
        self.disk.mkdir(parents=True)
        self.imds.__enter__()
        self._configure()
        self._init = subprocess.Popen(
            [sys.executable, "-I", "-S", init.__file__, *self._identity()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.start_daemon()
        return self

    def _identity(self) -> list[str]:
        if self.user.pw_uid == os.geteuid():
            return ["--host", self.name] if self._own_host else []
        return ["--user", str(self.user.pw_uid), self.name]

    def _configure(self) -> None:
        (self.root / "spotwatchd.toml").write_text(_configuration(self._choices()))

    def _choices(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            "store": self._store,
            "socket": self.socket,
            "runtime_dir": str(self.root / "run"),
            "state_dir": str(self.root / "state"),
            "machine": self.name,
            "allowed_users": [self.user.pw_name],
            "checkpoint_root": str(self.disk),
            "imds": {"endpoint": self.imds.url},
        }
        for key, value in self._settings.items():
            if isinstance(value, dict):
                chosen[key] = {**chosen.get(key, {}), **value}
            else:
                chosen[key] = value
        return chosen

    def spawn(self, argv: list[str], output: Path, **env: str) -> int:
        """Start a process on the machine. Returns its pid."""
        process = self._init
        assert process is not None  # noqa: S101 - it is booted
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        order = {"argv": argv, "env": {**self._env, **env}, "output": str(output)}
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise _no_namespaces() from None
        answer = process.stdout.readline()
        if not answer:
            raise _no_namespaces()
        return int(answer)

    @staticmethod
    def signal(pid: int, number: int) -> None:
        """Signal a process of the machine."""
        tree.signal_all([pid], number)

    def start_daemon(self, *, wait: bool = True) -> None:
        """Start the daemon (again)."""
        argv = [sys.executable, "-m", "spotwatchd.cli.daemon"]
        argv += ["--config", str(self.root / "spotwatchd.toml")]
        self.daemon_pid = self.spawn(argv, self.root / "daemon.log")
        if wait:
            wait_for(self.answers, f"the daemon of {self.name} answers\n{self.log()}", 30)

    def answers(self) -> bool:
        """Whether the daemon answers on its socket."""
        try:
            self.get("/v1/status")
        except DaemonUnreachable:
            return False
        return True

    def kill_daemon(self) -> None:
        """SIGKILL the daemon alone."""
        os.kill(self.daemon_pid, signal.SIGKILL)
        wait_for(lambda: not tree.command(self.daemon_pid), "the daemon is gone", 10)

    def restart_daemon(self, **settings: Any) -> None:
        """Kill the daemon, change its configuration, start it again."""
        self.kill_daemon()
        self._settings.update(settings)
        self._configure()
        self.start_daemon()

    def log(self) -> str:
        """What the daemon wrote so far."""
        path = self.root / "daemon.log"
        return path.read_text() if path.exists() else ""

    def get(self, target: str) -> Any:
        """GET from the daemon."""
        return request(self.socket, "GET", target, timeout=10)

    def post(self, target: str, body: Any = None) -> Any:
        """POST to the daemon."""
        return request(self.socket, "POST", target, body, timeout=10)

    def submit(self, name: str, argv: list[str], **body: Any) -> Any:
        """Register a job with its checkpoints on this machine's disk."""
        env = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        document = {
            "name": name,
            "argv": argv,
            "cwd": str(self.root.parent),
            "env": {**env, "PYTHONPATH": _SOURCE},
            "checkpoint_dir": str(self.disk / name),
            **body,
        }
        return self.post("/v1/jobs", document)

    def run(self, name: str, argv: list[str], cwd: Path, *options: str) -> None:
        """``spotwatch run --detach`` in ``cwd``, as a person at this machine types it.

        Raises CalledProcessError.
        """
        command = [sys.executable, "-m", "spotwatchd.cli.main", "--socket", self.socket, "run"]
        command += ["--name", name, "--checkpoint-dir", str(self.disk / name), "--detach"]
        subprocess.run(
            [*command, *options, "--", *argv],
            cwd=cwd,
            env={**self._env, "XDG_CACHE_HOME": str(self.disk / "cache")},
            capture_output=True,
            check=True,
        )

    def says(self, expression: str) -> str:
        """What a Python on the machine says: the value of an expression over ``os`` and ``pwd``."""
        output = self.root / "said"
        output.unlink(missing_ok=True)
        code = f"import os, pwd; print({expression}, end='.')"
        self.spawn([sys.executable, "-I", "-c", code], output)
        done = wait_for(lambda: output.exists() and output.read_text(), "a word", 30)
        return str(done)[:-1]

    def job(self, name: str) -> Any:
        """The job's document, or None while the machine does not know it."""
        jobs = self.get("/v1/status")["jobs"]
        return next((job for job in jobs if job["name"] == name), None)

    def processes(self, part: str) -> list[int]:
        """Processes of the machine whose command line contains ``part``."""
        below = tree.descendants(self._init.pid) if self._init else []
        return [pid for pid in below if part in tree.command(pid)]

    def all_processes(self) -> list[int]:
        """Every process of the machine."""
        return tree.descendants(self._init.pid) if self._init else []

    def power_off(self) -> None:
        """Everything ends at one moment; the disk stays."""
        if self._init is not None:
            tree.destroy(self._init.pid)
            self._init.kill()
            self._init.communicate()
            self._init = None
            self.imds.__exit__(None, None, None)

    def destroy(self) -> None:
        """Everything ends at one moment, and the disk is gone."""
        self.power_off()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.boot()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.power_off()
