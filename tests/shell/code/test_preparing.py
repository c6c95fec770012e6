"""Before an attempt: the prepare command, its output, and what becomes of one that hangs."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.core.lease import Owner, Terms
from spotwatchd.core.retention import Retention
from spotwatchd.core.spec import make_spec
from spotwatchd.rehearsal.machine import wait_for
from spotwatchd.store.base import Backend
from spotwatchd.store.init import init_store
from spotwatchd.store.job_file import JobFile
from spotwatchd.store.lacking import Lacking
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Cancelled, Patience
from spotwatchd.store.preparing import Prepared, prepare


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """A directory store."""
    (tmp_path / "store").mkdir()
    init_store(f"file://{tmp_path}/store")
    return open_backend(f"file://{tmp_path}/store")


def job(root: Path, seconds: float = 60.0, **fields: Any) -> JobFile:
    """A job whose directory is ``root``."""
    command = {"argv": [sys.executable, "-V"], "cwd": str(root)}
    spec = make_spec({"name": "job", "run_id": "r", **command, **fields}, "here")
    return JobFile(
        name="job",
        checkpoint_dir=root / "ckpt",
        checkpoint_glob=None,
        store=f"file://{root}/store",
        socket="",
        runtime_dir=root,
        owner=Owner("m", "b", "h"),
        spec=spec,
        terms=Terms.of(30.0),
        retention=Retention(3, 0),
        grace=60.0,
        prepare_seconds=seconds,
    )


def ready(backend: Backend, made: JobFile, limits: Patience | None = None, **env: str) -> Prepared:
    """Prepare it in an environment with little in it."""
    given = {"PATH": os.environ["PATH"], **env}
    return prepare(made, backend, given, limits or Patience(), here=True)


def test_it_runs_in_the_jobs_directory_with_its_secrets(tmp_path: Path, backend: Backend) -> None:
    """And what it makes counts: here the program itself."""
    secret = tmp_path / "secret"
    secret.write_text("TOKEN=t0p\n")
    secret.chmod(0o600)
    command = "pwd; echo $TOKEN $X; echo complaint >&2; ln -s /bin/true made"
    made = job(tmp_path, prepare=command, env_file=str(secret), argv=[str(tmp_path / "made")])
    assert ready(backend, made, X="x").argv == [str(tmp_path / "made")]
    log = tmp_path / "prepare.log"
    assert log.read_text() == f"{tmp_path}\nt0p x\ncomplaint\n"
    assert log.stat().st_mode & 0o777 == 0o600, "it may print its secrets"


def test_a_failure_names_the_log_and_not_what_is_in_it(tmp_path: Path, backend: Backend) -> None:
    """Status and place; the output stays in the file, the newest attempt's alone."""
    (tmp_path / "prepare.log").write_text("of an earlier attempt")
    with pytest.raises(Lacking, match="ended with status 3") as caught:
        ready(backend, job(tmp_path, prepare="echo t0p; exit 3"))
    log = tmp_path / "prepare.log"
    assert str(log) in caught.value.remedy
    assert "t0p" not in str(caught.value)
    assert log.read_text() == "t0p\n"


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _pid(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"), "its process is known", 40)
    return int(path.read_text())


HANGS = "sleep 1000 & echo $! > pid; wait"


def test_one_that_does_not_end_is_ended_with_its_children(tmp_path: Path, backend: Backend) -> None:
    """After its time; the job is blocked and not hung."""
    with pytest.raises(Lacking, match=r"has not ended after 0\.5 s"):
        ready(backend, job(tmp_path, 0.5, prepare=HANGS))
    child = _pid(tmp_path / "pid")
    wait_for(lambda: _ended(child), "its child is gone", 40)


def test_one_that_nobody_waits_for_is_ended(tmp_path: Path, backend: Backend) -> None:
    """A notice arrives while packages are being installed."""
    cancelled = threading.Event()
    limits = Patience(cancelled=cancelled)

    def give_up() -> None:
        _pid(tmp_path / "pid")
        cancelled.set()

    stop = threading.Thread(target=give_up)
    stop.start()
    with pytest.raises(Cancelled):
        ready(backend, job(tmp_path, prepare=HANGS), limits)
    stop.join()
    wait_for(lambda: _ended(_pid(tmp_path / "pid")), "its child is gone", 40)


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path, backend: Backend) -> None:
    """Its directory belongs to the job's user, and so does the process; still."""
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "prepare.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        ready(backend, job(tmp_path, prepare="true"))
    assert (tmp_path / "elsewhere").read_text() == "kept"
