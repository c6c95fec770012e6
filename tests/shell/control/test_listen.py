"""The socket belongs to one daemon, is never open too wide, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.control import listen
from spotwatchd.control.server import ControlServer
from spotwatchd.errors import ConfigError
from spotwatchd.wire import http
from tests.shell.control.conftest import Daemon
from tests.shell.control.memory import MemoryDesk


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The most careless umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _server(path: Path, **settings: Any) -> ControlServer:
    return ControlServer(MemoryDesk(), path=path, **settings)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.usefixtures("open_umask")
def test_never_wider_than_asked(home: Path, mode: int) -> None:
    """Between bind and chmod the file has no bit too many, whatever the umask."""
    made = listen.bind_narrow(home / "a", mode)
    assert _mode(home / "a") == mode
    made.close()


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_the_mode_is_what_was_asked(home: Path, mode: int) -> None:
    """A strict umask does not lock users out."""
    before = os.umask(0o077)
    server = _server(home / "s", mode=mode)
    try:
        await server.start()
    finally:
        os.umask(before)
    assert _mode(home / "s") == mode
    await server.close()


@pytest.mark.parametrize(("mode", "wanted"), [(0o600, 0o700), (0o666, 0o755)])
@pytest.mark.usefixtures("open_umask")
async def test_directories_are_made(home: Path, mode: int, wanted: int) -> None:
    """A private daemon's directory is private."""
    server = _server(home / "a" / "b" / "s", mode=mode)
    await server.start()
    assert (_mode(home / "a"), _mode(home / "a" / "b")) == (wanted, wanted)
    await server.close()


async def test_a_closed_server_leaves_no_socket(home: Path) -> None:
    """The file goes with the server; close may be called again, and before start."""
    server = _server(home / "s")
    await server.close()
    await server.start()
    assert (home / "s").is_socket()
    await server.close()
    await server.close()
    assert not (home / "s").exists()


async def test_somebody_elses_file_stays(home: Path) -> None:
    """What was put in the socket's place meanwhile is not ours to remove."""
    server = _server(home / "s")
    await server.start()
    (home / "s").unlink()
    (home / "s").write_text("precious")
    await server.close()
    assert (home / "s").read_text() == "precious"


async def test_a_stale_socket_is_replaced(daemon: Daemon) -> None:
    """A socket that a killed daemon left behind does not stop the next one."""
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(daemon.path))
    dead.listen()
    dead.close()
    await daemon.start()
    assert await daemon.call("GET", "/v1/status")


@pytest.mark.parametrize("waiting", [0, 1])
async def test_a_live_listener_is_respected(home: Path, waiting: int) -> None:
    """A daemon that answers, or hangs with a full queue, keeps its socket."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        other.bind(str(home / "s"))
        other.listen(0)
        if waiting:
            client.connect(str(home / "s"))
        with pytest.raises(ConfigError, match="another spotwatchd is running") as caught:
            await _server(home / "s").start()
        assert caught.value.remedy
        assert (home / "s").is_socket()


async def test_two_daemons(daemon: Daemon) -> None:
    """The second daemon is refused and the first goes on; when it ends another may start."""
    first = await daemon.start()
    second = _server(daemon.path)
    with pytest.raises(ConfigError, match="another spotwatchd is running"):
        await second.start()
    await second.close()
    assert await daemon.call("GET", "/v1/status")
    await first.close()
    third = _server(daemon.path)
    await third.start()
    await third.close()


async def test_a_daemon_whose_socket_was_removed_still_counts(home: Path) -> None:
    """The lock tells of a live daemon even when somebody deleted its socket."""
    first, second = _server(home / "s"), _server(home / "s")
    await first.start()
    (home / "s").unlink()
    with pytest.raises(ConfigError, match="another spotwatchd is running"):
        await second.start()
    await first.close()


async def test_many_start_together_over_a_stale_socket(home: Path) -> None:
    """Of twenty that find the same stale socket at once exactly one gets it."""
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(home / "s"))
    dead.close()
    servers = [_server(home / "s") for _ in range(20)]
    results = await asyncio.gather(*(each.start() for each in servers), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, ConfigError) for result in results) == 19
    assert await asyncio.to_thread(http.request, str(home / "s"), "GET", "/v1/status")
    await asyncio.gather(*(each.close() for each in servers))


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_not_a_socket_stays(home: Path, kind: str) -> None:
    """A file of the user is never removed for us."""
    there = home / "s"
    if kind == "file":
        there.write_text("precious")
    elif kind == "directory":
        there.mkdir()
    else:
        (home / "target").write_text("precious")
        there.symlink_to(home / "target")
    with pytest.raises(ConfigError, match="not a socket") as caught:
        await _server(there).start()
    assert caught.value.where == str(there)
    assert _exists(there)


async def test_a_directory_that_others_may_change(home: Path) -> None:
    """A world-writable directory without the sticky bit is refused."""
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="everybody may write"):
        await _server(home / "open" / "s").start()
    (home / "open").chmod(0o1777)
    server = _server(home / "open" / "s")
    await server.start()
    await server.close()


@pytest.mark.root
@pytest.mark.parametrize("above", [False, True])
async def test_a_directory_of_somebody_else(home: Path, other_uid: int, above: bool) -> None:
    """Nobody else owns the socket's directory or the one above."""
    (home / "theirs").mkdir()
    os.chown(home / "theirs", other_uid, other_uid)
    path = home / "theirs" / "ours" / "s" if above else home / "theirs" / "s"
    with pytest.raises(ConfigError, match=f"belongs to uid {other_uid}"):
        await _server(path).start()


async def test_a_path_that_is_too_long(home: Path) -> None:
    """108 bytes are too many for a Unix socket; 107 are not."""
    longest = home / ("x" * (107 - len(str(home)) - 1))
    server = _server(longest)
    await server.start()
    await server.close()
    with pytest.raises(ConfigError, match="longer than 107"):
        await _server(longest.with_name(longest.name + "x")).start()


async def test_a_directory_that_cannot_be_made(home: Path) -> None:
    """An OSError becomes what, where and remedy."""
    (home / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        await _server(home / "file" / "s").start()
    assert caught.value.remedy


def test_neither_or_both() -> None:
    """The socket is named in exactly one way."""
    for path, fd in ((None, None), (Path("/x"), 3)):
        with pytest.raises(ConfigError):
            ControlServer(MemoryDesk(), path=path, fd=fd)


async def test_a_socket_passed_by_systemd(home: Path) -> None:
    """A listening socket that was handed over is served, and its file left to its owner."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as passed:
        passed.bind(str(home / "s"))
        passed.listen()
        server = ControlServer(MemoryDesk(), fd=os.dup(passed.fileno()))
        await server.start()
        assert await asyncio.to_thread(http.request, str(home / "s"), "GET", "/v1/status")
        await server.close()
        assert (home / "s").is_socket()
        # Restarted: what connected in between was queued, not refused.
        again = ControlServer(MemoryDesk(), fd=os.dup(passed.fileno()))
        call = asyncio.to_thread(http.request, str(home / "s"), "GET", "/v1/status")
        waiting = asyncio.create_task(call)
        await asyncio.sleep(0)
        await again.start()
        assert await waiting
        await again.close()


async def test_a_passed_descriptor_that_is_no_such_socket(home: Path) -> None:
    """A file, a TCP socket and one that does not listen are refused by name."""
    with (
        (home / "file").open("w") as file,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as silent,
    ):
        for fd in (file.fileno(), tcp.fileno(), silent.fileno(), 9999):
            with pytest.raises(ConfigError, match=f"file descriptor {fd}") as caught:
                await ControlServer(MemoryDesk(), fd=fd).start()
            assert caught.value.remedy
        assert tcp.getsockname()


_DIE = """
import asyncio, os, pathlib, signal, sys
from spotwatchd.control.listen import bind
bind(pathlib.Path(sys.argv[1]), mode=0o600, backlog=5)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_after_a_kill(daemon: Daemon) -> None:
    """A daemon killed without warning leaves nothing that stops its successor."""
    root = str(Path(listen.__file__).parents[2])
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _DIE, str(daemon.path)], cwd=root, check=False
    )
    assert killed.returncode == -9
    assert daemon.path.is_socket()
    await daemon.start()
    assert await daemon.call("GET", "/v1/status")
