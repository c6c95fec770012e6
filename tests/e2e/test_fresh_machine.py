"""A machine that has nothing but the image and the store: no checkout, another path and host."""

from __future__ import annotations

import pwd
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World
from tests.e2e.project import CANARY, HELPER, Project


@pytest.fixture
def project(world: World) -> Project:
    return Project(world)


def state(machine: Machine) -> dict[str, Any]:
    """The job as the machine sees it."""
    return machine.job("job") or {}


def interrupted(world: World, machine: Machine) -> None:
    """The machine is taken away after its job was saved."""
    world.reach(20)
    machine.imds.announce("terminate", 20)
    world.until(lambda: state(machine)["state"] == "interrupted", "it is settled")
    machine.destroy()


def stopped(world: World, machine: Machine) -> None:
    """It ran, and a person stopped it."""
    world.until(lambda: state(machine)["state"] == "running", "it runs")
    world.reach(world.committed() + 10)
    machine.post("/v1/control", {"name": "job", "do": "stop"})
    world.until(lambda: state(machine)["state"] == "stopped", "it is stopped")


def test_each_missing_piece_is_named_and_its_remedy_starts_the_job(
    world: World, project: Project
) -> None:
    """Data, secrets, code, prepare, interpreter: blocked in turn, no crash, then it finishes."""
    first = world.machine()
    flag, cwd = world.root / "prepared", project.root
    project.run(
        first, "--code", "bundle", *project.needs(), "--prepare", f"test -e {flag}", steps=400
    )
    world.until(lambda: state(first)["state"] == "blocked", "the flag is not there yet")
    flag.touch()
    interrupted(world, first)
    (bundle,) = (world.root / "store" / "job" / "code").iterdir()
    hidden = bundle.rename(world.root / "hidden.tar.gz")
    bundle.write_bytes(hidden.read_bytes()[:-1] + b"!")
    for path in (project.data, project.root.parent, project.python.parent.parent):
        shutil.rmtree(path)
    project.secret.unlink()
    flag.unlink()
    shutil.rmtree(world.root / "cache")
    second = world.machine()

    def write_secret() -> None:
        project.secret.write_text(f"TOKEN={CANARY}\n")
        project.secret.chmod(0o644)

    remedies: list[tuple[str, str, Callable[[], Any]]] = [
        (f"data path {project.data} is not", "mount or copy", project.data.mkdir),
        ("cannot be read: no such file", "chmod 600", write_secret),
        ("is open to every user", "chmod 600", lambda: project.secret.chmod(0o600)),
        ("the code is refused: it is not the bundle", "--code", bundle.unlink),
        ("the code of the job is not in the store", "--code", lambda: hidden.rename(bundle)),
        ("the prepare command ended with status 1", "prepare.log", flag.touch),
        (f"{project.python} is not on this machine", "install", lambda: _link(project.python)),
    ]
    for what, remedy, mend in remedies:
        world.until(lambda what=what: what in str(state(second).get("reason")), what)  # type: ignore[misc]
        found = state(second)
        assert found["state"] == "blocked"
        assert remedy in found["remedy"]
        mend()
    world.until(lambda: state(second).get("state") == "finished", "it finishes")
    assert world.head()["crashes"] == 0
    assert world.computed_twice() == 0
    began = [line for line in world.lines() if "cwd" in line]
    assert len(began) == 2
    assert began[1]["resumed"] > 0
    assert began[0]["cwd"] == str(cwd / "sub")
    assert began[1]["cwd"].startswith(str(second.root / "state" / "jobs" / "job" / "code"))
    assert began[0]["sum"] == began[1]["sum"]


def _link(python: Path) -> None:
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)


def test_a_commit_is_fetched_and_a_dirty_tree_is_said(world: World, project: Project) -> None:
    """--code git: the other machine runs the commit, without what was changed since."""
    remote = world.root / "remote.git"
    project.git("init", "--quiet", "--bare", str(remote))
    project.git("add", ".")
    project.git("commit", "--quiet", "-m", "one")
    project.git("remote", "add", "origin", str(remote))
    project.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    (project.root / "sub" / "new.txt").write_text("not committed")
    first = world.machine()
    said = project.run(first, "--code", "git", *project.needs(), steps=300)
    assert "1 change" in said
    interrupted(world, first)
    shutil.rmtree(project.root)
    second = world.machine()
    world.until(lambda: state(second).get("state") == "finished", "it finishes")
    began = [line for line in world.lines() if "cwd" in line]
    assert "/code/git-" in began[1]["cwd"]
    assert not (Path(began[1]["cwd"]) / "new.txt").exists()


def test_a_machine_that_has_it_takes_what_another_lacks(world: World, project: Project) -> None:
    """The blocked machine gives the lease back; the job runs where the data is."""
    first = world.machine()
    project.run(first, "--code", "bundle", *project.needs(), steps=100_000)
    world.until(world.committed, "a checkpoint")
    project.data.rename(world.root / "elsewhere")
    first.imds.announce("terminate", 20)
    world.until(lambda: state(first)["state"] == "interrupted", "it is settled")
    first.destroy()
    second = world.machine()
    world.until(lambda: state(second).get("state") == "blocked", "the second lacks the data")
    # The same disk for all machines of this test: the third "has" it once it is back, and the
    # second is held by a file of its own that stands in its way.
    code = second.root / "state" / "jobs" / "job" / "code"
    shutil.rmtree(code, ignore_errors=True)
    code.write_text("in the way")
    (world.root / "elsewhere").rename(project.data)
    shutil.rmtree(project.root)
    third = world.machine()
    world.until(lambda: state(third).get("state") == "running", "the third takes it")
    assert state(second)["state"] == "blocked"


def test_changed_code_is_run_by_the_machine_that_has_the_old(
    world: World, project: Project
) -> None:
    """--continue with other code on B: A, where its directory still is as it was, runs the new."""
    first, second = world.machine(), world.machine()
    project.run(first, "--code", "bundle", *project.needs())
    stopped(world, first)
    helper = project.root / "helper.py"
    helper.write_text(f"{HELPER}SUM += ' changed'\n")
    project.run(second, "--continue", "--code", "bundle", *project.needs())
    stopped(world, second)
    helper.write_text(HELPER)
    first.post("/v1/control", {"name": "job", "do": "start"})
    stopped(world, first)
    began = [line for line in world.lines() if "cwd" in line]
    assert [line["sum"].endswith(" changed") for line in began] == [False, True, True]
    assert began[0]["cwd"] == began[1]["cwd"] == str(project.root / "sub")
    assert began[2]["cwd"].startswith(str(first.root / "state" / "jobs" / "job" / "code"))
    assert began[2]["resumed"] > began[1]["resumed"] > 0


def test_a_user_who_is_not_allowed_is_shown_with_the_remedy(world: World, project: Project) -> None:
    """Refused and reported in log and status; once the configuration names them, it goes on."""
    first = world.machine()
    project.run(first, "--code", "bundle", *project.needs(), steps=300)
    interrupted(world, first)
    second = world.machine(allowed_users=["somebody-else"])
    world.until(lambda: state(second).get("state") == "blocked", "it is refused")
    found = state(second)
    assert first.user.pw_name in found["reason"]
    assert "allowed_users" in found["remedy"]
    assert "job/spec.json: user" in second.log()
    assert not second.processes("train.py")
    second.restart_daemon(allowed_users=[first.user.pw_name])
    world.until(lambda: state(second).get("state") == "finished", "it finishes")
    assert world.head()["crashes"] == 0
    assert world.computed_twice() == 0


@pytest.mark.root
def test_a_job_goes_on_as_another_user(world: World, project: Project) -> None:
    """allowed_users maps names: the store keeps the first one, files belong to the second."""
    first = world.machine()
    project.run(first, "--code", "bundle", *project.needs(), steps=300)
    interrupted(world, first)
    other = pwd.getpwuid(2)
    second = world.machine_of(other, allowed_users=[f"{first.user.pw_name}:{other.pw_name}"])
    world.until(lambda: state(second).get("state") == "finished", "it finishes")
    assert state(second)["uid"] == other.pw_uid
    assert world.document("job/spec.json")["user"] == first.user.pw_name


@pytest.mark.root
def test_a_user_changes_a_job_where_they_have_another_name(world: World, project: Project) -> None:
    """allowed_users says that it is the same user: run --continue is theirs; A follows it."""
    first = world.machine()
    project.run(first, "--code", "bundle", *project.needs())
    stopped(world, first)
    other = pwd.getpwuid(2)
    with pytest.raises(AssertionError, match=f"belongs to the user {first.user.pw_name}"):
        project.run(world.machine_of(other), "--continue", "--code", "bundle", *project.needs())
    second = world.machine_of(other, allowed_users=[f"{first.user.pw_name}:{other.pw_name}"])
    (project.root / "helper.py").write_text(f"{HELPER}SUM += ' changed'\n")
    project.run(second, "--continue", "--code", "bundle", *project.needs())
    stopped(world, second)
    assert world.document("job/spec.json")["user"] == first.user.pw_name
    first.post("/v1/control", {"name": "job", "do": "start"})
    stopped(world, first)
    began = [line["sum"].endswith(" changed") for line in world.lines() if "sum" in line]
    assert began == [False, True, True]
