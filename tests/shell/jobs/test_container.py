"""A container as the host sees it: recognised, and ended to its last process."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotwatchd.jobs.container import Container, recognise
from tests.shell.jobs.boxes import Box, eventually, lives, plain_process

# As root, and as somebody else with root mapped to them: root is only needed to try both.
KINDS = [pytest.param(False, id="root", marks=pytest.mark.root), pytest.param(True, id="user")]


@pytest.fixture
def box() -> Iterator[Callable[..., Box]]:
    """Makes boxes; none outlives its test."""
    made: list[Box] = []

    def make(*, user: bool, cgroup: Path | None = None) -> Box:
        made.append(Box(user=user, cgroup=cgroup))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["unified", "pids"])
def cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A cgroup of our own, of version 2 and of version 1. For root."""
    hierarchies = {
        "unified": [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")],
        "pids": [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")],
    }
    root = next(path for path in hierarchies[request.param] if (path / "cgroup.procs").exists())
    made = root / f"sw-{secrets.token_hex(8)}"
    made.mkdir()
    yield made
    eventually(lambda: not (made / "cgroup.procs").read_text(), "the cgroup is empty")
    made.rmdir()


def _recognised(pid: int) -> Container:
    found = recognise(pid)
    assert found is not None
    return found


def _end(container: Container) -> None:
    def step() -> bool:
        assert container.send(signal.SIGKILL) == []
        return not container.members()

    eventually(step, "nothing is left")


@pytest.mark.parametrize("user", KINDS)
def test_all_of_it_ends(box: Callable[..., Box], *, user: bool) -> None:
    """Without a cgroup of its own it is known by its pid namespace, children included."""
    made = box(user=user)
    inside = made.pids()
    assert len(inside) >= 2
    found = _recognised(inside[-1])
    assert found.cgroup is None, "it shares ours, which is not to be ended"
    assert set(inside) <= set(found.members())
    assert os.getpid() not in found.members()
    _end(found)
    assert not any(lives(pid) for pid in inside)
    found.close()


@pytest.mark.parametrize("user", KINDS)
def test_the_one_beside_it_lives_on(box: Callable[..., Box], *, user: bool) -> None:
    """Two containers of one cgroup: only the processes of the one are ended."""
    one, other = box(user=user), box(user=user)
    found = _recognised(one.pid)
    assert not set(found.members()) & set(other.pids())
    _end(found)
    assert lives(other.pid)
    found.close()


@pytest.mark.root
def test_its_cgroup_ends_with_it(cgroup: Path, box: Callable[..., Box]) -> None:
    """A cgroup that only the container is in counts as the container, on both versions."""
    made = box(user=False, cgroup=cgroup)
    found = _recognised(made.pid)
    assert found.cgroup == cgroup
    # As a daemon knows it that was started since: nothing but the cgroup is kept.
    again = Container(cgroup)
    assert set(made.pids()) <= set(again.members())
    _end(again)
    assert not lives(made.pid)
    found.close()


@pytest.mark.root
def test_a_cgroup_with_somebody_else_in_it_is_not_its_own(
    cgroup: Path, box: Callable[..., Box]
) -> None:
    """A login session has a cgroup too: what else is in there is nobody's container."""
    bystander = plain_process()
    try:
        (cgroup / "cgroup.procs").write_text(str(bystander.pid))
        made = box(user=False, cgroup=cgroup)
        found = _recognised(made.pid)
        assert found.cgroup is None
        _end(found)
        assert lives(bystander.pid)
        found.close()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_of_the_host_is_in_none() -> None:
    """No namespace of its own, no engine's cgroup: nothing is ended with it."""
    process = plain_process()
    try:
        assert recognise(process.pid) is None
    finally:
        process.kill()
        process.wait()
    assert recognise(process.pid) is None, "one that is gone is in none either"


@pytest.mark.root
def test_what_may_not_be_signalled_is_named(cgroup: Path, box: Callable[..., Box]) -> None:
    """A daemon that is not root cannot end a container of root's, and knows it."""
    made = box(user=False, cgroup=cgroup)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the same question, asked as nobody
        try:
            os.setuid(65534)
            refused = Container(cgroup).send(signal.SIGKILL)
            os.write(writer, b"refused" if made.pid in refused else b"sent")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.close(writer)
    assert lives(made.pid)


def test_a_cgroup_that_goes_away_while_it_is_read_is_empty(tmp_path: Path) -> None:
    """Engines remove it the moment that a container has ended, which is when we look."""
    for number in range(20):
        cgroup = tmp_path / f"box-{number}"
        for inner in range(50):
            (cgroup / f"inner-{inner}" / "below").mkdir(parents=True)
        remover = threading.Thread(target=shutil.rmtree, args=(cgroup,))
        remover.start()
        while remover.is_alive():
            assert Container(cgroup).members() == []
        remover.join()
