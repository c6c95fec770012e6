"""The job without a daemon, and with one that works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spotwatchd.client import connect
from spotwatchd.errors import ConfigError, JobError
from tests.shell.client.fake_daemon import FakeDaemon

REPOSITORY = Path(__file__).parents[3]


def sealed_names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_without_a_daemon_checkpoints_land_in_the_default_directory_and_nothing_is_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = connect()
    with job.checkpoint(7) as path:
        (path / "data").write_text("seven")
    again = connect()
    assert again.latest() == job.checkpoint_dir / "step-000000000007"
    assert job.checkpoint_dir.parent == tmp_path / "checkpoints"
    assert (again.resume_step, again.cause, again.attempt) == (7, "restart", 1)
    assert not job.should_checkpoint()
    assert job.ask is None
    assert job.deadline() is None
    assert capfd.readouterr().err == ""


def test_a_named_job_without_a_daemon_says_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    job = connect("resnet")
    for step in (1, 2):
        with job.checkpoint(step) as path:
            (path / "x").touch()
    job.finish()
    assert capfd.readouterr().err.count("\n") == 1


def test_the_launchers_word_wins_over_the_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTWATCH_JOB", "launched")
    monkeypatch.setenv("SPOTWATCH_CHECKPOINT_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("SPOTWATCH_ATTEMPT", "3")
    monkeypatch.setenv("SPOTWATCH_CAUSE", "interruption")
    monkeypatch.setenv("SPOTWATCH_RESUME_STEP", "40")
    monkeypatch.setenv("SPOTWATCH_RESUME_FROM", str(tmp_path))
    monkeypatch.setenv("SPOTWATCH_RUN_ID", "r1")
    job = connect("mine", tmp_path / "here")
    assert (job.name, job.checkpoint_dir) == ("launched", tmp_path / "there")
    assert (job.attempt, job.cause, job.resume_step, job.run_id) == (3, "interruption", 40, "r1")
    assert job.latest() == tmp_path


def test_a_launcher_that_restored_nothing_means_nothing_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c" / "step-000000000005").mkdir(parents=True)
    monkeypatch.setenv("SPOTWATCH_RESUME_FROM", "")
    assert connect("a", tmp_path / "c").latest() is None


@pytest.mark.parametrize("name", [".hidden", "a/b", "x" * 65])
def test_a_name_that_cannot_be_a_job_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        connect(name)


def test_an_exception_seals_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    job = connect("a", tmp_path / "c")

    def save_half() -> None:
        with job.checkpoint(1) as path:
            (path / "half").write_text("half")
            raise RuntimeError("training broke")

    with pytest.raises(RuntimeError, match="training broke"):
        save_half()
    assert sealed_names(tmp_path / "c") == []
    assert connect("a", tmp_path / "c").latest() is None


def test_a_step_that_this_run_sealed_is_not_written_again(tmp_path: Path) -> None:
    job = connect("a", tmp_path / "c")
    for content in ("first", "second"):
        with job.checkpoint(4) as path:
            (path / "data").write_text(content)
    assert (tmp_path / "c/step-000000000004/data").read_text() == "first"
    assert sealed_names(tmp_path / "c") == ["step-000000000004"]


def test_the_same_step_of_another_lineage_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "c/step-000000000004"
    old.mkdir(parents=True)
    (old / "data").write_text("another run's")
    (tmp_path / "c/step-000000000009").mkdir()
    job = connect("a", tmp_path / "c")  # resumes from 9, not from 4
    job.latest()
    with job.checkpoint(4) as path:
        (path / "data").write_text("ours")
    assert (old / "data").read_text() == "ours"
    assert len(sealed_names(tmp_path / "c")) == 2


def test_a_draft_whose_writer_was_killed_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    script = (
        "import sys, time; from spotwatchd.client.seals import Draft; from pathlib import Path\n"
        f"d = Draft(Path({str(directory)!r}), 1); print(d.path.name, flush=True); time.sleep(60)"
    )
    writers = [_python(script) for _ in range(2)]
    try:
        names = [writer.stdout.readline().strip() for writer in writers if writer.stdout]
        for name in names:
            os.utime(directory / name, (1, 1))
        writers[0].kill()
        writers[0].wait()
        with connect("a", directory).checkpoint(2) as path:
            (path / "x").touch()
        assert sealed_names(directory) == sorted([names[1], "step-000000000002"])
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_checkpoint_is_whole_or_absent_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    """Many short saves, SIGKILL at moments spread over them: what latest() names is complete."""
    directory, parts = tmp_path / "c", 8
    script = (
        "from spotwatchd.client import connect; import itertools\n"
        f"job = connect('a', {str(directory)!r})\n"
        "for step in itertools.count((job.latest() and job.resume_step or 0) + 1):\n"
        "    with job.checkpoint(step) as path:\n"
        f"        for part in range({parts}): (path / str(part)).write_text(str(step) * 1000)\n"
        "    print(step, flush=True)\n"
    )
    reached = 0
    for round_ in range(12):
        writer = _python(script)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.003 * round_)  # the moment of death, not a wait for something
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        job = connect("a", directory)
        latest = job.latest()
        assert latest is not None
        assert job.resume_step is not None
        assert job.resume_step > reached
        reached = job.resume_step
        contents = {file.read_text() for file in latest.iterdir()}
        assert contents == {str(reached) * 1000}
        assert len(list(latest.iterdir())) == parts


def test_a_named_job_registers_itself_and_hears_an_ask_until_a_checkpoint_answers_it(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    job = connect("resnet", tmp_path / "c", rank=0, world_size=1, socket=str(daemon.socket))
    assert daemon.said("jobs")[0]["checkpoint_dir"] == str(tmp_path / "c")
    assert daemon.said("processes") == [{"rank": 0, "world_size": 1}]
    assert not job.should_checkpoint()
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + 100
    daemon.board.ask(1, deadline=deadline, cause="notice", action="terminate")
    assert job.should_checkpoint()
    assert job.leaving
    left = job.deadline()
    assert left is not None
    assert 90 < left <= 100
    with job.checkpoint(12) as path:
        (path / "x").write_text("x")
    assert not job.should_checkpoint()
    assert job.leaving
    seal = daemon.said("checkpoints")[0]
    status = (tmp_path / "c/step-000000000012").stat()
    assert seal["mark"] == f"{status.st_ino}-{status.st_mtime_ns}"
    assert (seal["phase"], seal["step"], seal["ask"]) == ("sealed", 12, 1)
    assert (seal["path"], seal["rank"], seal["world_size"]) == ("step-000000000012", 0, 1)
    assert seal["seconds"] > 0


def test_an_ask_that_comes_while_saving_is_not_answered_by_that_save(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    job = connect("resnet", tmp_path / "c", socket=str(daemon.socket))
    with job.checkpoint(1) as path:
        (path / "x").touch()
        daemon.board.ask(1, deadline=None, cause="periodic", action="none")
    assert daemon.said("checkpoints")[0]["ask"] == 0
    assert job.should_checkpoint()
    assert job.answer(1)
    assert not job.should_checkpoint()
    assert daemon.said("checkpoints")[1]["ask"] == 1
    assert not job.leaving


def test_a_withdrawn_ask_is_not_an_ask(daemon: FakeDaemon, tmp_path: Path) -> None:
    job = connect("resnet", tmp_path / "c", socket=str(daemon.socket))
    daemon.board.ask(1, deadline=None, cause="notice", action="stop")
    daemon.board.withdraw(1)
    assert not job.should_checkpoint()
    assert not job.leaving
    daemon.board.ask(2, deadline=None, cause="notice", action="stop")
    assert job.should_checkpoint()


def test_latest_waits_while_the_daemon_restores(daemon: FakeDaemon, tmp_path: Path) -> None:
    restored = tmp_path / "c/step-000000000030"
    daemon.restoring = 3
    daemon.resume = {"resume_from": str(restored), "resume_step": 30, "attempt": 2}
    job = connect("resnet", tmp_path / "c", socket=str(daemon.socket))
    assert job.latest() == restored
    assert (job.attempt, job.resume_step, job.run_id) == (2, 30, "run-1")


def test_words_register_again_after_a_restart_of_the_daemon(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    job = connect("resnet", tmp_path / "c", socket=str(daemon.socket))
    daemon.stop()
    with job.checkpoint(1) as path:
        (path / "x").touch()
    daemon.start()
    daemon.board.ask(1, deadline=None, cause="request", action="none")
    assert job.should_checkpoint()
    with job.checkpoint(2) as path:
        (path / "x").touch()
    assert len(daemon.said("processes")) == 2
    assert [seal["step"] for seal in daemon.said("checkpoints")] == [2]
    daemon.registered = False  # forgotten without a sign
    job.finish()
    assert len(daemon.said("finish")) == 2
    assert daemon.said("finish")[-1] == {"step": 2, "rank": 0}


def test_a_daemon_that_comes_later_is_found(short_dir: Path, daemon: FakeDaemon) -> None:
    daemon.stop()
    job = connect("resnet", short_dir / "c", socket=str(daemon.socket))
    daemon.start()
    daemon.board.ask(1, deadline=None, cause="notice", action="terminate")
    limit = time.monotonic() + 40
    while not job.should_checkpoint():
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert job.leaving


def test_a_forked_child_neither_speaks_nor_saves_for_its_parent(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    script = (
        "import os; from spotwatchd.client import connect; from spotwatchd.errors import JobError\n"
        f"job = connect('resnet', {str(tmp_path / 'c')!r}, socket={str(daemon.socket)!r})\n"
        "job.progress(1)\n"
        "if os.fork() == 0:\n"
        "    job.finish(); job.progress(2)\n"
        "    try:\n"
        "        with job.checkpoint(1): pass\n"
        "    except JobError as error: print(error.what, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait(); job.progress(3)\n"
    )
    parent = _python(script)
    assert parent.communicate()[0] == "a forked process cannot save for its parent\n"
    assert [word["step"] for word in daemon.said("progress")] == [1, 3]
    assert daemon.said("finish") == []
    assert not (tmp_path / "c").exists()


def test_only_rank_0_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(JobError, match="only rank 0"), connect("a", tmp_path).checkpoint(1):
        pass


def test_after_close_nothing_is_asked(daemon: FakeDaemon, tmp_path: Path) -> None:
    job = connect("resnet", tmp_path / "c", socket=str(daemon.socket))
    daemon.board.ask(1, deadline=None, cause="notice", action="terminate")
    job.close()
    job.close()
    assert not job.should_checkpoint()


def _python(script: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )
