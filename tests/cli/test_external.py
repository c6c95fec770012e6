"""``spotwatch run --external``: when a program that its scheduler ends may be ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from spotwatchd.rehearsal.machine import wait_for
from tests.cli.fake_daemon import FakeDaemon, job_document

JOB = "/v1/jobs/resnet"
PROCESSES = f"{JOB}/processes"
# Saves once it may, and ends then.
PROGRAM = "touch began; while [ ! -e may ]; do sleep 0.05; done; touch saved"


def test_a_commit_of_step_0_that_was_there_before_is_not_the_save_that_is_waited_for(
    short_dir: Path, environment: dict[str, str], fake: FakeDaemon
) -> None:
    """The program is left alone until it has saved what it was asked for."""
    document = job_document("resnet", attempt=1, sealed_step=0, committed_step=0)
    facts = {"state": "ready", "attempt": 1, "cause": "first", "run_id": "r", "mark": "m"}
    fake.answers["/v1/jobs"] = (201, document)
    fake.answers[JOB] = (200, document)
    fake.answers[PROCESSES] = (201, {**facts, "checkpoint_dir": str(short_dir)})
    words = ["run", "--external", "--name", "resnet", "--checkpoint-dir", "ckpt", "--"]
    keeper = subprocess.Popen(
        [sys.executable, "-m", "spotwatchd.cli.main", *words, "sh", "-c", PROGRAM],
        cwd=short_dir,
        env={**environment, "SPOTWATCH_SOCKET": str(short_dir / "s.sock")},
        stderr=subprocess.PIPE,
    )
    with keeper:
        wait_for(lambda: fake.listeners and (short_dir / "began").exists(), "it runs", 30)
        fake.events.append({"event": "committed", "step": 0, "line": "step 0 committed"})
        assert keeper.stderr is not None
        while b"step 0 committed" not in keeper.stderr.readline():
            assert keeper.poll() is None
        keeper.send_signal(signal.SIGTERM)
        wait_for(lambda: fake.posted(f"{JOB}/ask"), "it is asked to save", 30)
        known = len(fake.posted(PROCESSES))
        wait_for(lambda: len(fake.posted(PROCESSES)) > known, "the command goes on", 30)
        (short_dir / "may").touch()
        assert keeper.wait(30) == 75
    assert (short_dir / "saved").exists()
