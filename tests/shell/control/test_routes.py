"""The routes answer as the contract says."""

from __future__ import annotations

import os

from tests.shell.control.conftest import JOB, Daemon


async def test_status_lists_the_jobs(up: Daemon) -> None:
    """Status, list and single job tell the same."""
    job = {"name": "resnet", "uid": os.getuid(), "asks": 0}
    assert (await up.call("GET", "/v1/status"))["jobs"] == [job]
    assert await up.call("GET", "/v1/jobs") == [job]
    assert await up.call("GET", "/v1/jobs/resnet") == job
    assert await up.call("GET", "/v1/receipts") == [{"job": "resnet"}]


async def test_join(up: Daemon) -> None:
    """A process that joins is known by a pidfd."""
    answer = await up.call("POST", "/v1/jobs/resnet/processes", {"rank": 0, "world_size": 2})
    assert answer["rank"] == 0
    ((peer, pidfd),) = up.desk.jobs["resnet"].processes
    assert peer.pid == os.getpid()
    assert peer.uid == os.getuid()
    assert pidfd > 2
