"""An evaluation that is cut short changes nothing in the training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spotwatchd.torch import Checkpointer, Preempted
from tests.shell.client.fake_daemon import FakeDaemon
from tests.shell.torch.training import Run, seed

DATA = [torch.tensor([[float(x)]]) for x in range(5)]
TOTAL = 6


def evaluation(ask_at: int | None, daemon: FakeDaemon | None, cause: str) -> Iterator[int]:
    """Five batches that draw random numbers; the ask arrives with one of them."""
    for batch in range(5):
        if batch == ask_at and daemon is not None:
            daemon.board.ask(daemon.board.number + 1, deadline=None, cause=cause, action="none")
        torch.rand(1)
        random.random()
        yield batch


class Evaluating(Run):
    """Evaluates in every turn, after the optimizer step."""

    ask_in: tuple[int, int] | None = None
    daemon: FakeDaemon | None = None
    cause = "notice"

    def evaluate(self, step: int, ckpt: Checkpointer) -> None:
        ask_at = self.ask_in[1] if self.ask_in is not None and self.ask_in[0] == step else None
        for _ in ckpt.interruptible(evaluation(ask_at, self.daemon, self.cause)):
            torch.rand(1)


def control(directory: Path) -> Evaluating:
    seed(1)
    run = Evaluating(directory, DATA)
    run.go(TOTAL, run.evaluate)
    return run


def asked_run(
    daemon: FakeDaemon, directory: Path, ask_in: tuple[int, int], cause: str
) -> Evaluating:
    seed(1)
    run = Evaluating(directory, DATA, socket=str(daemon.socket))
    run.ask_in, run.daemon, run.cause = ask_in, daemon, cause
    return run


@pytest.mark.parametrize("ask_in", [(1, 0), (3, 2), (6, 4)])
def test_after_the_optimizer_step_the_step_of_this_turn_is_saved_and_not_repeated(
    ask_in: tuple[int, int], daemon: FakeDaemon, tmp_path: Path
) -> None:
    run = asked_run(daemon, tmp_path / "c", ask_in, "notice")
    with pytest.raises(Preempted) as left:
        run.go(TOTAL, run.evaluate)
    assert left.value.step == ask_in[0]
    seed(2)
    second = Evaluating(tmp_path / "c", DATA)
    second.go(TOTAL, second.evaluate)
    expected = control(tmp_path / "control")
    assert run.trace + second.trace == expected.trace
    assert second.weights() == expected.weights()


def test_before_the_first_batch_of_a_turn_the_step_before_it_is_saved(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    def attempt(directory: Path, ask_at: int | None) -> list[tuple[int, float, float]]:
        socket = str(daemon.socket) if ask_at is not None else None
        run = Run(directory, DATA, socket=socket)
        trace, left_at = [], None
        try:
            for step in run.ckpt.steps(TOTAL):
                when = 2 if step == ask_at else None
                for _ in run.ckpt.interruptible(evaluation(when, daemon, "notice")):
                    torch.rand(1)
                trace.append((step, float(next(run.batches)), float(torch.rand(1))))
        except Preempted as left:
            left_at = left.step
        assert left_at == (None if ask_at is None else ask_at - 1)
        return trace

    seed(1)
    expected = attempt(tmp_path / "control", None)
    for ask_at in (1, 4):
        directory = tmp_path / f"c{ask_at}"
        seed(1)
        first = attempt(directory, ask_at)
        seed(2)
        assert first + attempt(directory, None) == expected
        assert len(first) == ask_at - 1


def test_an_ask_to_save_and_go_on_waits_for_the_end_of_the_turn(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    run = asked_run(daemon, tmp_path / "c", (3, 1), "periodic")
    sealed_in_turn = []

    def evaluate(step: int, ckpt: Checkpointer) -> None:
        run.evaluate(step, ckpt)
        sealed_in_turn.append(len(daemon.said("checkpoints")))

    run.go(TOTAL, evaluate)
    assert sealed_in_turn[2] == 0
    assert [seal["step"] for seal in daemon.said("checkpoints")] == [3, 6]
    assert run.trace == control(tmp_path / "control").trace


def test_a_break_leaves_no_trace_in_the_generators_even_if_the_iterator_is_kept(
    tmp_path: Path,
) -> None:
    kept = []

    def looks_at_one(_: int, ckpt: Checkpointer) -> None:
        batches = ckpt.interruptible(evaluation(None, None, ""))
        kept.append(batches)
        for _batch in batches:
            break

    seed(1)
    run = Run(tmp_path / "c", DATA).go(TOTAL, looks_at_one)
    assert run.trace == control(tmp_path / "control").trace
    assert len(kept) == TOTAL
