"""The example as a user runs it: a process, killed and asked, ends with the same weights."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.client.seals import newest
from spotwatchd.wire.seal import TEMPORARY_PREFIX, step_of
from tests.shell.client.fake_daemon import FakeDaemon

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "examples"
STEPS = 24


@contextmanager
def running(
    directory: Path, *options: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The example, in ``directory``; dead at the end."""
    command = [sys.executable, str(EXAMPLES / "train_digits.py"), "--steps", str(STEPS)]
    command += ["--log", str(directory / "log"), "--weights", str(directory / "weights.json")]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            [*command, *options], cwd=directory, env=variables, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_to_the_end(directory: Path, *options: str, **environment: str) -> None:
    with running(directory, *options, **environment) as process:
        assert process.wait(50) == 0


def logged(directory: Path) -> list[int]:
    log = directory / "log"
    return (
        [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []
    )


def wait_for_step(process: subprocess.Popen[bytes], directory: Path, step: int) -> None:
    limit = time.monotonic() + 120
    while max(logged(directory), default=0) < step and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the uninterrupted run ends with."""
    directory = tmp_path_factory.mktemp("control")
    run_to_the_end(directory, SPOTWATCH_SOCKET=str(directory / "nobody"))
    return weights(directory)


def weights(directory: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((directory / "weights.json").read_text())
    return report


@pytest.mark.parametrize("span", [(1, 8), (8, 15), (16, 22)])
def test_killed_at_a_random_moment_without_a_daemon_it_ends_with_the_same_weights(
    span: tuple[int, int], control: dict[str, Any], tmp_path: Path
) -> None:
    with running(tmp_path, "--every-steps", "3") as process:
        wait_for_step(process, tmp_path, random.randint(*span))
        time.sleep(random.random() * 0.03)  # the moment: anywhere in a step or in a save
        process.kill()
        assert process.wait(10) == -9
    left = newest(tmp_path / "checkpoints/train_digits")
    saved = 0 if left is None else json.loads((left / "meta.json").read_text())["step"]
    computed = logged(tmp_path)
    assert len(computed) - saved <= 3
    run_to_the_end(tmp_path, "--every-steps", "3")
    assert logged(tmp_path) == computed + list(range(saved + 1, STEPS + 1))
    assert weights(tmp_path) == control


def test_asked_through_the_board_it_seals_exits_with_75_and_loses_no_step(
    control: dict[str, Any], daemon: FakeDaemon, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "c"
    launched = {
        "SPOTWATCH_JOB": "digits",
        "SPOTWATCH_SOCKET": str(daemon.socket),
        "SPOTWATCH_CHECKPOINT_DIR": str(checkpoints),
        "SPOTWATCH_RESUME_FROM": "",
    }
    with running(tmp_path, **launched) as process:
        wait_for_step(process, tmp_path, 10)
        deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + 20
        daemon.board.ask(1, deadline=deadline, cause="notice", action="terminate")
        assert process.wait(20) == 75
    sealed = newest(checkpoints)
    assert sealed is not None
    assert step_of(sealed.name) == logged(tmp_path)[-1]
    assert not list(checkpoints.glob(f"{TEMPORARY_PREFIX}*"))
    run_to_the_end(tmp_path, **launched | {"SPOTWATCH_RESUME_FROM": str(sealed)})
    assert logged(tmp_path) == list(range(1, STEPS + 1))
    assert weights(tmp_path) == control
    assert [word["step"] for word in daemon.said("finish")] == [STEPS]
    assert len(daemon.said("progress")) == 2


def test_the_plain_loop_saves_when_asked_and_goes_on_where_it_stopped(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    command = [sys.executable, str(EXAMPLES / "plain_loop.py")]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    variables["SPOTWATCH_SOCKET"] = str(daemon.socket)
    daemon.board.ask(1, deadline=None, cause="stop", action="none")
    assert subprocess.run(command, cwd=tmp_path, env=variables, check=False).returncode == 75
    sealed = newest(tmp_path / "checkpoints/plain-loop")
    assert sealed is not None
    assert step_of(sealed.name) == int((sealed / "count").read_text()) > 0
    daemon.resume = {"resume_from": str(sealed), "resume_step": step_of(sealed.name)}
    assert subprocess.run(command, cwd=tmp_path, env=variables, check=False).returncode == 0
    assert daemon.said("finish") == [{"step": 1_000_000, "rank": 0}]
