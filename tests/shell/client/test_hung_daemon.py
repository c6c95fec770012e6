"""A daemon that is stopped, overrun or slow never holds training."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spotwatchd.client import connect
from spotwatchd.client.line import LIMIT
from tests.shell.client.fake_daemon import FakeDaemon, deaf_listener

# Above the limit: the file system and two busy cores.
SLACK = 0.15


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def save(directory: Path, sock: Path) -> None:
    job = connect("resnet", directory, socket=str(sock))
    for act in (lambda: job.progress(1), job.finish):
        assert seconds(act) < LIMIT + SLACK
    with job.checkpoint(2) as path:
        (path / "x").touch()
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT + SLACK
    assert job.latest() is not None
    assert not job.should_checkpoint()


def test_a_daemon_that_never_answers_costs_the_limit_and_no_more(short_dir: Path) -> None:
    with deaf_listener(short_dir / "s"):
        assert seconds(lambda: connect("a", short_dir / "c", socket=str(short_dir / "s"))) < (
            LIMIT + SLACK
        )
        save(short_dir / "c", short_dir / "s")


def test_a_full_backlog_costs_the_limit_and_no_more(short_dir: Path) -> None:
    with deaf_listener(short_dir / "s", backlog=0):
        waiting = []
        while True:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.setblocking(False)
            waiting.append(one)
            try:
                one.connect(str(short_dir / "s"))
            except BlockingIOError:
                break
        save(short_dir / "c", short_dir / "s")
        for one in waiting:
            one.close()


def test_an_answer_that_comes_byte_by_byte_costs_the_limit_and_no_more(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.drip = 0.05
    save(tmp_path / "c", daemon.socket)


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n{", b"\0" * 99]
)
def test_an_answer_that_is_none_is_no_error_in_training(short_dir: Path, answer: bytes) -> None:
    with deaf_listener(short_dir / "s") as listener:
        import threading

        def talk_nonsense() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        talker = threading.Thread(target=talk_nonsense)
        talker.start()
        job = connect("a", short_dir / "c", socket=str(short_dir / "s"))
        job.progress(1)
        job.finish()
        talker.join(5)
        assert not talker.is_alive()
        assert not job.should_checkpoint()
