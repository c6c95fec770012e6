"""When a checkpoint is written, when the loop ends, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spotwatchd.client import connect
from spotwatchd.errors import Damaged, JobError
from spotwatchd.torch import Checkpointer, Preempted
from tests.shell.client.fake_daemon import FakeDaemon
from tests.shell.torch.training import Run, seed

ONES = [torch.ones(2, 1)]


def ask(daemon: FakeDaemon, cause: str) -> None:
    action = "terminate" if cause == "notice" else "none"
    daemon.board.ask(daemon.board.number + 1, deadline=None, cause=cause, action=action)


def steps_in(directory: Path) -> list[int]:
    return sorted(int(entry.name.removeprefix("step-")) for entry in directory.iterdir())


def test_an_uninterrupted_loop_seals_its_last_step_and_reports_the_job_as_done(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    Run(tmp_path / "c", ONES, socket=str(daemon.socket)).go(5)
    assert steps_in(tmp_path / "c") == [5]
    assert daemon.said("progress") == [{"step": 1, "rank": 0}]
    assert daemon.said("finish") == [{"step": 5, "rank": 0}]


def test_a_done_run_started_again_computes_nothing_and_has_the_weights(tmp_path: Path) -> None:
    done = Run(tmp_path / "c", ONES).go(5)
    seed(8)
    again = Run(tmp_path / "c", ONES).go(5)
    assert again.trace == []
    assert again.weights() == done.weights()
    assert Run(tmp_path / "c", ONES).go(7).trace[0][0] == 6


@pytest.mark.parametrize("cause", ["notice", "stop"])
def test_asked_to_leave_it_seals_the_complete_step_and_exits_with_75(
    cause: str, daemon: FakeDaemon, tmp_path: Path
) -> None:
    cleaned: list[bool] = []

    def asked(step: int, _: Checkpointer) -> None:
        if step == 3:
            ask(daemon, cause)

    def script() -> None:
        try:
            Run(tmp_path / "c", ONES, socket=str(daemon.socket)).go(9, asked)
        except Exception:  # noqa: BLE001 - the point: this does not stop it
            cleaned.append(False)
        finally:
            cleaned.append(True)
        cleaned.append(False)

    with pytest.raises(Preempted) as left:
        script()
    assert cleaned == [True]
    assert isinstance(left.value, SystemExit)
    assert (left.value.code, left.value.step) == (75, 3)
    assert steps_in(tmp_path / "c") == [3]
    assert daemon.said("finish") == []


@pytest.mark.parametrize("cause", ["hint", "periodic", "request"])
def test_asked_to_save_it_saves_and_goes_on(cause: str, daemon: FakeDaemon, tmp_path: Path) -> None:
    def asked(step: int, _: Checkpointer) -> None:
        if step == 3:
            ask(daemon, cause)

    run = Run(tmp_path / "c", ONES, socket=str(daemon.socket)).go(6, asked)
    assert steps_in(tmp_path / "c") == [3, 6]
    assert [turn[0] for turn in run.trace] == [1, 2, 3, 4, 5, 6]
    assert [seal["ask"] for seal in daemon.said("checkpoints")] == [1, 0]


def test_an_ask_in_the_last_turn_does_not_stop_a_job_that_is_done(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    def asked(step: int, _: Checkpointer) -> None:
        if step == 4:
            ask(daemon, "notice")

    Run(tmp_path / "c", ONES, socket=str(daemon.socket)).go(4, asked)
    assert daemon.said("finish") == [{"step": 4, "rank": 0}]


def test_with_finish_false_an_ask_in_the_last_turn_leaves_before_what_follows(
    daemon: FakeDaemon,
) -> None:
    job = connect("tiny", daemon.socket.parent / "c", socket=str(daemon.socket))
    ckpt = Checkpointer(job=job, model=nn.Linear(1, 1))
    turns = ckpt.steps(2, finish=False)
    assert [next(turns), next(turns)] == [1, 2]
    ask(daemon, "notice")
    with pytest.raises(Preempted):
        next(turns)
    assert daemon.said("finish") == []


def test_every_steps_saves_and_the_same_step_asked_for_is_not_written_twice(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    def asked(step: int, _: Checkpointer) -> None:
        if step == 4:
            ask(daemon, "periodic")

    Run(tmp_path / "c", ONES, socket=str(daemon.socket), every_steps=2).go(7, asked)
    assert steps_in(tmp_path / "c") == [2, 4, 6, 7]
    assert [seal["step"] for seal in daemon.said("checkpoints")] == [2, 4, 6, 7]


def test_an_exception_in_the_body_never_seals(daemon: FakeDaemon, tmp_path: Path) -> None:
    def broken(step: int, _: Checkpointer) -> None:
        if step == 3:
            ask(daemon, "notice")
            raise RuntimeError("loss is nan")

    with pytest.raises(RuntimeError, match="loss is nan"):
        Run(tmp_path / "c", ONES, socket=str(daemon.socket), every_steps=2).go(9, broken)
    assert steps_in(tmp_path / "c") == [2]
    assert daemon.said("finish") == []


def test_break_alone_neither_seals_nor_finishes(daemon: FakeDaemon, tmp_path: Path) -> None:
    run = Run(tmp_path / "c", ONES, socket=str(daemon.socket), every_steps=2)
    for step in run.ckpt.steps(9):
        next(run.batches)
        if step == 3:
            break
    assert steps_in(tmp_path / "c") == [2]
    assert daemon.said("finish") == []


@pytest.mark.parametrize("how", ["then the loop ends", "then break", "after break"])
def test_early_stopping_seals_the_step_and_stays_done(
    how: str, daemon: FakeDaemon, tmp_path: Path
) -> None:
    run = Run(tmp_path / "c", ONES, socket=str(daemon.socket))
    for step in run.ckpt.steps(9):
        next(run.batches)
        if step == 3 and how != "after break":
            run.ckpt.finish()
        if step == 3 and how != "then the loop ends":
            break
    if how == "after break":
        run.ckpt.finish()
    assert steps_in(tmp_path / "c") == [3]
    assert daemon.said("finish")[0] == {"step": 3, "rank": 0}
    assert list(Run(tmp_path / "c", ONES).ckpt.steps(9)) == []


def test_accumulation_is_never_cut(daemon: FakeDaemon, tmp_path: Path) -> None:
    data = [torch.tensor([[float(x)]]) for x in range(7)]
    seed(1)
    control = Run(tmp_path / "control", data).go(8, accumulate=3)

    def asked(step: int, _: Checkpointer) -> None:
        if step == 5:
            ask(daemon, "notice")

    seed(1)
    first = Run(tmp_path / "c", data, socket=str(daemon.socket))
    with pytest.raises(Preempted):
        first.go(8, asked, accumulate=3)
    seed(2)
    second = Run(tmp_path / "c", data).go(8, accumulate=3)
    assert first.trace + second.trace == control.trace


def test_a_disk_that_refuses_does_not_stop_training(
    daemon: FakeDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "c", ONES, socket=str(daemon.socket), every_steps=2, full=Full(1))
    assert len(run.go(6).trace) == 6
    assert "step 2 could not be saved, training goes on" in capfd.readouterr().err
    assert steps_in(tmp_path / "c") == [6]
    final = Run(tmp_path / "d", ONES, socket=str(daemon.socket), full=Full(1))
    with pytest.raises(OSError, match="No space"):
        final.go(6)
    assert len(daemon.said("finish")) == 1


def test_another_rank_neither_saves_nor_reports(daemon: FakeDaemon, tmp_path: Path) -> None:
    job = connect("tiny", tmp_path / "c", rank=1, world_size=2, socket=str(daemon.socket))
    ckpt = Checkpointer(job=job, every_steps=1, model=nn.Linear(1, 1))
    ask(daemon, "notice")
    assert list(ckpt.steps(3)) == [1, 2, 3]
    assert not (tmp_path / "c").exists()
    assert daemon.said("finish") == []
    assert daemon.said("processes")[0] == {"rank": 1, "world_size": 2}


def test_parts_that_differ_are_named(tmp_path: Path) -> None:
    job = connect("tiny", tmp_path / "c")
    list(Checkpointer(job=job, model=nn.Linear(1, 1), old=nn.Linear(1, 1)).steps(1))
    job = connect("tiny", tmp_path / "c")
    other = Checkpointer(job=job, model=nn.Linear(1, 1), scaler=nn.Linear(1, 1))
    with pytest.raises(JobError, match="it lacks scaler; the script lacks old"):
        next(other.steps(2))


def test_a_part_that_does_not_fit_is_named(tmp_path: Path) -> None:
    list(Checkpointer(job=connect("t", tmp_path / "c"), model=nn.Linear(1, 1)).steps(1))
    wider = Checkpointer(job=connect("t", tmp_path / "c"), model=nn.Linear(2, 1))
    with pytest.raises(JobError, match="model does not fit the checkpoint"):
        next(wider.steps(2))


def test_a_part_without_state_is_refused_at_once() -> None:
    with pytest.raises(JobError, match=r"scaler \(int\) has no state_dict"):
        Checkpointer(scaler=3)
    with pytest.raises(JobError, match="every_steps=0"):
        Checkpointer(every_steps=0)


def test_batches_made_after_the_first_turn_are_refused(tmp_path: Path) -> None:
    ckpt = Checkpointer(job=connect("t", tmp_path / "c"), model=nn.Linear(1, 1))
    next(ckpt.steps(1))
    with pytest.raises(JobError, match="after the first turn"):
        ckpt.batches(ONES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "written by a newer spotwatchd"),
        ({"format": "other"}, "not a spotwatchd-torch checkpoint"),
        (None, "not a checkpoint that Checkpointer wrote"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused(
    change: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    Run(tmp_path / "c", ONES).go(1)
    meta = tmp_path / "c/step-000000000001/meta.json"
    if change is None:
        meta.unlink()
    else:
        meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(Damaged, match=message):
        Run(tmp_path / "c", ONES).go(2)


@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_damaged_state_is_refused_and_the_file_named(damage: str, tmp_path: Path) -> None:
    Run(tmp_path / "c", ONES).go(1)
    state = tmp_path / "c/step-000000000001/state.pt"
    if damage == "gone":
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:1000] if damage == "cut" else b"garbage" * 99)
    with pytest.raises(Damaged, match="cannot read the checkpoint") as refused:
        Run(tmp_path / "c", ONES).go(2)
    assert str(state) in str(refused.value)


def test_plain_state_is_read_without_unpickling_code_and_other_state_is_read_too(
    tmp_path: Path,
) -> None:
    Run(tmp_path / "c", ONES).go(1)
    torch.load(tmp_path / "c/step-000000000001/state.pt", weights_only=True)
    odd = Odd()
    list(Checkpointer(job=connect("t", tmp_path / "d"), odd=odd).steps(1))
    back = Odd()
    back.path = Path("elsewhere")
    next(Checkpointer(job=connect("t", tmp_path / "d"), odd=back).steps(2))
    assert back.path == odd.path


class Odd:
    """State that is neither tensor nor plain value."""

    path = Path("here")

    def state_dict(self) -> dict[str, Any]:
        return {"path": self.path, "error": os.error}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.path = state["path"]


class Full:
    """A part whose saving meets a full disk, the first ``failures`` times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def state_dict(self) -> dict[str, Any]:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
