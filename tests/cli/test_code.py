"""``spotwatch run --code``: what travels, what is said, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Spotwatch
from tests.cli.fake_daemon import FakeDaemon, job_document

RUN = ("run", "--name", "resnet", "--checkpoint-dir", "ckpt", "--detach")


@pytest.fixture
def registered(fake: FakeDaemon) -> FakeDaemon:
    """A daemon that takes the job."""
    fake.answers["/v1/jobs"] = (201, job_document("resnet"))
    return fake


def git(directory: Path, *words: str) -> str:
    """Git, as nobody in particular."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", "-c", "init.defaultBranch=main", *identity, *words]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(short_dir: Path) -> Path:
    """The directory of the commands, as a repository with one commit."""
    (short_dir / "lib").mkdir()
    (short_dir / "lib" / "model.py").write_text("x = 1\n")
    (short_dir / "train.py").write_text("print(1)\n")
    (short_dir / "run.sh").write_text("#!/bin/sh\n")
    (short_dir / "run.sh").chmod(0o755)
    (short_dir / "link").symlink_to("lib/model.py")
    (short_dir / ".gitignore").write_text("data/\n*.log\nruntime\ns.sock*\n.cache\n")
    git(short_dir, "init", "--quiet")
    git(short_dir, "add", ".")
    git(short_dir, "commit", "--quiet", "-m", "one")
    return short_dir


def body(fake: FakeDaemon) -> dict[str, Any]:
    """What was registered last."""
    return dict(fake.posted("/v1/jobs")[-1])


def packed(fake: FakeDaemon) -> dict[str, tarfile.TarInfo]:
    """The members of the bundle that was registered last."""
    with tarfile.open(body(fake)["bundle"], "r:gz") as tar:
        return {member.name: member for member in tar}


def test_a_bundle_has_what_git_would_not_ignore(
    registered: FakeDaemon, spotwatch: Spotwatch, project: Path
) -> None:
    """New files too; no ignored ones, checkpoints, secrets, or links that lead away."""
    (project / "new.py").write_text("")
    (project / "data").mkdir()
    (project / "data" / "big.bin").write_text("ignored")
    (project / "ckpt").mkdir()
    (project / "ckpt" / "model.pt").write_text("a checkpoint")
    (project / ".env").write_text("TOKEN=x")
    (project / "hub.txt").write_text("TOKEN=x")
    (project / "hub.txt").chmod(0o600)
    (project / "away").symlink_to("/etc/passwd")
    (project / "run.sh").chmod(0o755)
    (project / "link2").symlink_to("../x")
    done = spotwatch(*RUN, "--code", "bundle", "--env-file", "hub.txt", "python3", "train.py")
    assert done.returncode == 0, done.stderr
    members = packed(registered)
    assert sorted(members) == [
        *(".gitignore", "lib/model.py", "link", "new.py", "run.sh", "train.py")
    ]
    assert members["run.sh"].mode == 0o755
    assert members["link"].linkname == "lib/model.py"
    for name in (".env", "away", "link2"):
        assert f"{name} is not packed" in done.stderr
    sent = body(registered)
    assert sent["env_file"] == str(project / "hub.txt")
    assert sent["code"]["root"] == os.path.realpath(project)
    assert sent["code"]["entries"] == "6"
    assert sent["python"]["version"].startswith("3.")


@pytest.mark.parametrize("code", ["bundle", "git"])
def test_repositories_inside_stay_behind_and_it_is_said(
    registered: FakeDaemon, spotwatch: Spotwatch, project: Path, code: str
) -> None:
    """A submodule, and one that git does not know yet: another machine would miss them."""
    git(project, "remote", "add", "origin", "https://git.example.org/x.git")
    for name in ("known", "unknown"):
        (project / name).mkdir()
        git(project / name, "init", "--quiet")
        (project / name / "inner.py").write_text("")
        git(project / name, "add", ".")
        git(project / name, "commit", "--quiet", "-m", "one")
    (project / ".gitmodules").write_text("")
    git(project, "add", "known", ".gitmodules")
    done = spotwatch(*RUN, "--code", code, "true")
    assert done.returncode == 0, done.stderr
    if code == "git":
        assert "submodules are not fetched" in done.stderr
        return
    assert not [name for name in packed(registered) if "known" in name]
    assert "unknown/ is not packed: it is a repository of its own" in done.stderr
    assert " known/ is not packed" in done.stderr


def test_the_same_files_make_the_same_bundle(
    registered: FakeDaemon, spotwatch: Spotwatch, project: Path
) -> None:
    """Whenever it is packed; other contents, another name."""
    spotwatch(*RUN, "--code", "bundle", "true")
    first = body(registered)["code"]
    os.utime(project / "train.py", (1, 1))
    spotwatch(*RUN, "--code", "bundle", "true")
    assert body(registered)["code"] == first
    (project / "train.py").write_text("print(2)\n")
    spotwatch(*RUN, "--code", "bundle", "true")
    assert body(registered)["code"]["sha256"] != first["sha256"]


def test_without_git_caches_stay_behind_and_it_is_said(
    registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path
) -> None:
    """A plain directory: all but caches and environments."""
    for name in ("train.py", "__pycache__/x.pyc", "env/pyvenv.cfg", "env/big", "runtime/x.pyc"):
        (short_dir / name).parent.mkdir(exist_ok=True)
        (short_dir / name).write_text("x")
    done = spotwatch(*RUN, "--code", "bundle", "true")
    assert done.returncode == 0, done.stderr
    assert "in no git repository" in done.stderr
    assert list(packed(registered)) == ["train.py"]


def test_a_dry_run_lists_and_does_nothing(
    fake: FakeDaemon, spotwatch: Spotwatch, project: Path
) -> None:
    """Names with sizes and the sum; no daemon is asked, nothing is packed."""
    done = spotwatch(*RUN, "--code-dry-run", "true")
    assert done.returncode == 0
    assert "           9 B  train.py" in done.stdout
    assert "in 5 files of" in done.stdout
    told = json.loads(spotwatch("--json", *RUN, "--code-dry-run", "true").stdout)
    assert {"path": "train.py", "size": 9} in told["files"]
    assert fake.calls == []
    assert not (project / ".cache").exists()


def test_a_large_bundle_is_refused_naming_the_largest_file(
    fake: FakeDaemon, spotwatch: Spotwatch, project: Path
) -> None:
    """The limit can be raised."""
    (project / "weights.bin").write_bytes(bytes(2_000_000))
    done = spotwatch(*RUN, "--code", "bundle", "--code-max-mb", "1.5", "true")
    assert done.returncode == 1
    assert "more than 1.5 MB: weights.bin (2.0 MB)" in done.stderr
    assert "--code-max-mb" in done.stderr
    assert fake.calls == []


def test_a_script_outside_of_the_bundle_is_said(
    registered: FakeDaemon, spotwatch: Spotwatch, tmp_path: Path
) -> None:
    """It would be missing elsewhere."""
    (tmp_path / "other.py").write_text("")
    done = spotwatch(*RUN, "--code", "bundle", "python3", str(tmp_path / "other.py"))
    assert f"{tmp_path / 'other.py'} is not below" in done.stderr
    assert registered.calls


def test_a_commit_travels_without_credentials(
    registered: FakeDaemon, spotwatch: Spotwatch, project: Path
) -> None:
    """The password in the remote's URL is told to nobody; changes and no push are said."""
    git(project, "remote", "add", "origin", "https://me:s3cr3t@git.example.org/x.git")
    (project / "train.py").write_text("print(2)\n")
    done = spotwatch(*RUN, "--code", "git", "python3", "train.py")
    assert done.returncode == 0, done.stderr
    assert body(registered)["code"] == {
        "kind": "git",
        "url": "https://git.example.org/x.git",
        "commit": git(project, "rev-parse", "HEAD"),
        "root": os.path.realpath(project),
    }
    assert "1 change" in done.stderr
    assert "push it" in done.stderr
    assert "s3cr3t" not in done.stderr + json.dumps(registered.posted("/v1/jobs"))


@pytest.mark.parametrize("made", ["nothing", "init", "commit"])
def test_code_that_git_cannot_name_is_refused(
    fake: FakeDaemon, spotwatch: Spotwatch, short_dir: Path, made: str
) -> None:
    """No repository, no commit, no remote: each with a remedy."""
    says = {"nothing": "no git repository", "init": "no commit", "commit": "no remote"}[made]
    if made != "nothing":
        git(short_dir, "init", "--quiet")
    if made == "commit":
        git(short_dir, "commit", "--quiet", "--allow-empty", "-m", "one")
    done = spotwatch(*RUN, "--code", "git", "true")
    assert done.returncode == 1
    assert says in done.stderr
    assert "  fix     " in done.stderr
    assert fake.calls == []


def test_a_virtual_environment_is_recognised(
    registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path
) -> None:
    """By asking its Python, also behind a script that pip made."""
    made = short_dir / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    script = made / "bin" / "torchrun"
    script.write_text(f"#!{made}/bin/python3\nprint(1)\n")
    script.chmod(0o755)
    version = ".".join(map(str, sys.version_info[:3]))
    facts = {"version": version, "prefix": str(made), "kind": "venv"}
    for program in (made / "bin" / "python", script):
        assert spotwatch(*RUN, str(program)).returncode == 0
        found = body(registered)["python"]
        assert Path(found.pop("executable")).parent == made / "bin"
        assert found == facts


def test_conda_is_recognised(registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path) -> None:
    """By the directory that conda keeps its records in; the interpreter itself says its prefix."""
    fake_conda = short_dir / "conda" / "bin" / "python3"
    fake_conda.parent.mkdir(parents=True)
    (short_dir / "conda" / "conda-meta").mkdir()
    prefix = short_dir / "conda"
    answer = json.dumps({"version": "3.12.1", "prefix": str(prefix), "base": str(prefix)})
    fake_conda.write_text(f"#!/bin/sh\necho '{answer}'\n")
    fake_conda.chmod(0o755)
    assert spotwatch(*RUN, str(fake_conda)).returncode == 0
    assert body(registered)["python"]["kind"] == "conda"
    assert body(registered)["python"]["version"] == "3.12.1"


def test_needs_are_registered_as_absolute_paths(
    registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path
) -> None:
    """Data, environment file, commands."""
    options = ("--data", "d1", "--data", "/d2", "--env-file", "e", "--env-command", "cat x")
    done = spotwatch(*RUN, *options, "--prepare", "pip install -r r.txt", "true")
    assert done.returncode == 0, done.stderr
    sent = body(registered)
    assert sent["data"] == [str(short_dir / "d1"), "/d2"]
    assert sent["env_file"] == str(short_dir / "e")
    assert (sent["env_command"], sent["prepare"]) == ("cat x", "pip install -r r.txt")
