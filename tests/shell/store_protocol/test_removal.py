"""`spotwatch rm` in a store: all of one job, nothing of another, whatever comes in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from spotwatchd.errors import JobError
from spotwatchd.store.base import Backend
from spotwatchd.store.removal import Removal
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.machine import JOB, ROOT, head_of

CUT_OFF = """\
import sys
from spotwatchd.store.open import open_backend
from spotwatchd.store.removal import Removal
from tests.shell.store_protocol.stepper import Stepper
Removal(Stepper(open_backend(sys.argv[1]), sys.argv[2]), sys.argv[3], print).run()
"""
NEIGHBOURS = (f"{JOB}2/spec.json", f"{JOB}.a/checkpoints/x", f"{JOB}-1/logs/1", "digit/head.json")


def keys(backend: Backend) -> set[str]:
    """Everything in the store."""
    return {info.key for name in backend.children("") for info in backend.objects(name)}


def remove(backend: Backend) -> int:
    """Remove the job in this process."""
    return Removal(backend, JOB, lambda _line: None).run()


def a_job(store: Store, machines: MakeMachine) -> None:
    """Two checkpoints, released; and neighbours whose names begin like it."""
    machine = machines(store, "a")
    machine.start()
    machine.take()
    machine.commit(10)
    machine.commit(20)
    machine.release()
    for key in NEIGHBOURS:
        store.backend.put_bytes(key, b"theirs")


def test_all_of_it_goes_and_nothing_else(store: Store, machines: MakeMachine) -> None:
    """The folder with its checkpoints; names that begin like its name are other jobs."""
    a_job(store, machines)
    assert remove(store.backend) >= 8
    assert keys(store.backend) == set(NEIGHBOURS)
    with pytest.raises(JobError, match=f"no job {JOB}"):
        remove(store.backend)


@pytest.mark.parametrize(
    "order",
    [
        "write_document head.json 1",
        "write_document lease.json 1",
        "write_document head.json 2",
        "delete MANIFEST 1",
        "delete model.pt 1",
        "delete spec.json 1",
        "delete head.json 1",
        "delete lease.json 1",
    ],
)
def test_cut_off_anywhere_it_is_begun_again(
    directory: Store, machines: MakeMachine, order: str
) -> None:
    """Killed before any of its steps: nobody begins the job meanwhile; the next one ends it."""
    a_job(directory, machines)
    command = [sys.executable, "-c", CUT_OFF, directory.url, f"SIGKILL {order}", JOB]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert any(key.startswith(f"{JOB}/") for key in keys(directory.backend))
    if f"{JOB}/head.json" in keys(directory.backend) and "head.json 1" not in order:
        assert head_of(directory.backend).halted == "stopped"
    remove(directory.backend)
    assert keys(directory.backend) == set(NEIGHBOURS)


def test_an_owner_that_slept_through_it_writes_nothing(
    directory: Store, machines: MakeMachine
) -> None:
    """Stopped past its lease while the job goes: it wakes up, says lost, and leaves nothing."""
    owner = machines(directory, "a", lease_seconds=1.0)
    owner.start()
    owner.take()
    owner.commit(10)
    owner.signal(signal.SIGSTOP)
    remove(directory.backend)
    assert keys(directory.backend) == set()
    owner.signal(signal.SIGCONT)
    assert "was removed" in owner.daemon.wait("lost")["reason"]
    assert keys(directory.backend) == set()
