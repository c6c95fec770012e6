"""A store that refuses: said with what, where and remedy; the daemon stays up; nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World
from tests.servers.fixtures import BUCKET, seaweed
from tests.servers.seaweed import ACCESS, READER, READER_SECRET, SECRET, Seaweed

__all__ = ["seaweed"]


def _environment(server: Seaweed, access: str = ACCESS, secret: str = SECRET) -> dict[str, str]:
    own = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    return {**server.environment, **own, "AWS_EC2_METADATA_DISABLED": "true"}


def _machine(world: World, store: str, environment: dict[str, str]) -> Machine:
    made = Machine(
        "m1",
        world.root / "m1",
        store,
        settings={"lease": {"seconds": 3.0}, "resume_from_store": False},
        env=environment,
    )
    world.machines.append(made)
    return made.boot()


def _refused(world: World, machine: Machine, *parts: str) -> dict[str, Any]:
    """Submit; wait until the job says why it waits; what it says names ``parts``."""
    machine.submit("job", world.argv(steps=200))
    world.until(lambda: machine.job("job")["reason"], "the reason")
    world.until(
        lambda: all(part in machine.job("job")["reason"] + machine.log() for part in parts),
        f"{parts} are named: {machine.job('job')}",
    )
    job: dict[str, Any] = machine.job("job")
    assert job["state"] == "queued"
    assert "fix" in machine.log()
    return job


def _others_work(world: World, machine: Machine) -> None:
    """The daemon serves a job with a store that is good."""
    machine.submit("other", world.argv(steps=20), store=world.store)
    world.until(lambda: machine.job("other")["state"] == "finished", "the other job finishes")


def test_a_bucket_that_does_not_exist(world: World, seaweed: Seaweed) -> None:
    """Named; the job waits and starts by itself once the bucket is there."""
    machine = _machine(world, "s3://no-such-bucket-here/team", _environment(seaweed))
    _refused(world, machine, "no-such-bucket-here")
    _others_work(world, machine)


def test_credentials_that_may_only_read(world: World, seaweed: Seaweed) -> None:
    """The missing permission is named."""
    store = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    machine = _machine(world, store, _environment(seaweed, READER, READER_SECRET))
    _refused(world, machine, "403", "s3:PutObject")
    _others_work(world, machine)


def test_a_directory_that_nobody_prepared(world: World) -> None:
    """An unmounted file system looks like this: refused with the command that prepares it."""
    empty = world.root / "mnt"
    empty.mkdir()
    machine = _machine(world, f"file://{empty}", {})
    _refused(world, machine, "spotwatch store init")
    _others_work(world, machine)
    shutil.copytree(world.root / "store", empty, dirs_exist_ok=True)
    world.until(lambda: machine.job("job")["state"] == "finished", "it runs once mended")


@pytest.mark.root
def test_a_full_store(world: World) -> None:
    """Full in mid-run: said so, training goes on; commits follow once there is room."""
    assert os.geteuid() == 0, "mounting a small file system needs root"
    disk = world.root / "small"
    _mount_copy(world.root / "store", disk)
    try:
        machine = _machine(world, f"file://{disk}", {})
        machine.submit("job", world.argv(kilobytes=400), interval=1)
        world.until(lambda: "no space left" in machine.log(), "the full disk is named")
        ballast = disk / "ballast"
        before = world.step()
        world.reach(before + 50)
        ballast.unlink()
        listed = _listed(disk)
        world.until(lambda: _listed(disk) > listed, "commits follow")
        assert machine.job("job")["attempt"] == 1
        complaints = [line for line in machine.log().splitlines() if '"fix"' in line]
        assert len(complaints) <= 3, "a retry is no news"
    finally:
        world.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _listed(disk: Path) -> int:
    versions = sorted((disk / "job").glob("head.json.*"))
    checkpoints = json.loads(versions[-1].read_bytes())["checkpoints"] if versions else []
    return int(checkpoints[-1]["step"]) if checkpoints else 0


def _mount_copy(source: Path, disk: Path) -> None:
    """A small ext4 of 12 MB that has the store's marker and little room."""
    image = disk.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(12 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    shutil.copytree(source, disk, dirs_exist_ok=True)
    room = shutil.disk_usage(disk).free - (1 << 20)
    (disk / "ballast").write_bytes(bytes(room))
