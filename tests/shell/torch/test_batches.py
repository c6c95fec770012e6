"""The place in the data is found again, whatever loads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler

from spotwatchd.errors import JobError
from spotwatchd.torch import Batches, Checkpointer, Preempted, ReplayWarning
from tests.shell.client.fake_daemon import FakeDaemon
from tests.shell.torch.training import Flow, Numbers, Run, seed

TOTAL = 11  # 20 numbers in batches of 4: two epochs and a bit


class Counting:
    """A loader that tells its position, as torchdata's StatefulDataLoader does."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        while self.next < 5:
            self.next += 1
            yield torch.tensor([[float(self.next)]])
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LOADERS: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True),
    "augmented": lambda: DataLoader(Numbers(noise=True), batch_size=4, shuffle=True),
    "in order": lambda: DataLoader(Numbers(), batch_size=3),
    "no batches": lambda: DataLoader(Numbers(7), batch_size=None, shuffle=True),
    "own generator": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, generator=generator()
    ),
    "replacement": lambda: DataLoader(
        Numbers(),
        batch_size=4,
        sampler=RandomSampler(range(20), replacement=True, num_samples=40, generator=generator()),
    ),
    "batch sampler": lambda: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(range(20)), 4, drop_last=True)
    ),
    "distributed": lambda: DataLoader(
        Numbers(), batch_size=4, sampler=DistributedSampler(Numbers(), 2, 0, shuffle=True)
    ),
    "stateful": Counting,
    "list": lambda: [torch.tensor([[float(x)]]) for x in range(4)],
}
WORKERS: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True, num_workers=2),
    "own generator": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, num_workers=2, generator=generator()
    ),
    "persistent": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True
    ),
}


@dataclass
class Result:
    trace: list[Any]
    weights: list[float]


def straight(make: Callable[[], Any], directory: Path) -> Result:
    seed(1)
    run = Run(directory, make()).go(TOTAL)
    return Result(run.trace, run.weights())


def interrupted(
    make: Callable[[], Any], directory: Path, daemon: FakeDaemon, stop: int, **options: Any
) -> Result:
    """Leave after step ``stop``; go on as another process would, with other seeds."""
    seed(1)
    trace = until_preempted(
        Run(directory, make(), socket=str(daemon.socket), **options), stop, daemon
    )
    seed(999)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReplayWarning)
        run = Run(directory, make(), **options).go(TOTAL)
    return Result(trace + run.trace, run.weights())


def until_preempted(run: Run, stop: int, daemon: FakeDaemon) -> list[Any]:
    # Not pytest.raises: the traceback it keeps would leave the run, and with it the workers, to
    # the cycle collector, which takes 5 s for each worker (DataLoader's limit for joining one).
    left_at = 0
    try:
        run.go(TOTAL, lambda step, _: leave_at(step, stop, daemon))
    except Preempted as left:
        left_at = left.step
    assert left_at == stop
    return run.trace


def leave_at(step: int, stop: int, daemon: FakeDaemon) -> None:
    if step == stop:
        daemon.board.ask(daemon.board.number + 1, deadline=None, cause="notice", action="stop")


@pytest.mark.parametrize("kind", LOADERS)
def test_every_step_is_the_same_wherever_the_run_was_interrupted(
    kind: str, tmp_path: Path, daemon: FakeDaemon
) -> None:
    control = straight(LOADERS[kind], tmp_path / "control")
    for stop in range(1, TOTAL):
        again = interrupted(LOADERS[kind], tmp_path / f"c{stop}", daemon, stop)
        assert again.trace == control.trace
        assert again.weights == control.weights


@pytest.mark.parametrize("replay", ["exact", "order"])
@pytest.mark.parametrize("kind", WORKERS)
def test_prefetched_batches_of_two_workers_do_not_count_as_consumed(
    kind: str, replay: str, tmp_path: Path, daemon: FakeDaemon
) -> None:
    control = straight(WORKERS[kind], tmp_path / "control")
    for stop in (2, 5, 8):  # in an epoch, at its end, in the next one
        again = interrupted(WORKERS[kind], tmp_path / f"c{stop}", daemon, stop, replay=replay)
        assert again.trace == control.trace
        assert again.weights == control.weights


def test_what_workers_draw_is_the_same_after_an_exact_replay(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    def make() -> Any:
        return DataLoader(Numbers(noise=True), batch_size=4, shuffle=True, num_workers=2)

    control = straight(make, tmp_path / "control")
    assert interrupted(make, tmp_path / "c", daemon, 8).trace == control.trace


def test_a_loader_without_an_index_is_loaded_again_with_a_warning_that_names_the_cost() -> None:
    first: Batches[torch.Tensor] = Batches(DataLoader(Flow(), batch_size=4))
    taken = [next(first) for _ in range(7)]
    second: Batches[torch.Tensor] = Batches(DataLoader(Flow(), batch_size=4))
    second.load_state_dict(first.state_dict())
    with pytest.warns(ReplayWarning, match="loaded 2 batches of epoch 1 a second time"):
        assert torch.equal(next(second), next(first))
    assert len(taken) == 7
    assert (second.epoch, second.position) == (1, 3)


def test_skipping_without_workers_loads_nothing() -> None:
    first: Batches[torch.Tensor] = Batches(DataLoader(Numbers(), batch_size=4, shuffle=True))
    for _ in range(3):
        next(first)
    data = Numbers()
    second: Batches[torch.Tensor] = Batches(DataLoader(data, batch_size=4, shuffle=True))
    second.load_state_dict(first.state_dict())
    next(second)
    assert len(data.loaded) == 4


def test_a_bare_generator_is_refused(tmp_path: Path) -> None:
    ckpt = Checkpointer(model=torch.nn.Linear(1, 1))
    with pytest.raises(JobError, match="cannot tell its position"):
        ckpt.batches(number for number in range(3))
    with pytest.raises(JobError, match="cannot be iterated"):
        ckpt.batches(7)  # type: ignore[arg-type] # the point of the test
    with pytest.raises(JobError, match="replay='quick'"):
        ckpt.batches([1], replay="quick")
    assert not (tmp_path / "checkpoints").exists()


def test_an_empty_loader_is_an_error_and_not_an_endless_loop() -> None:
    empty: Batches[int] = Batches([])
    with pytest.raises(JobError, match="no batch in a whole epoch"):
        next(empty)


def test_a_batch_taken_before_the_loop_is_an_error_once_there_is_something_to_restore(
    tmp_path: Path,
) -> None:
    Run(tmp_path / "c", [torch.ones(1, 1)]).go(2)
    run = Run(tmp_path / "c", [torch.ones(1, 1)])
    next(run.batches)
    with pytest.raises(JobError, match="before the first turn"):
        run.go(4)


def test_data_that_cannot_tell_its_position_must_be_iterated_with_batches(tmp_path: Path) -> None:
    loader = DataLoader(Numbers(), batch_size=4)
    ckpt = Checkpointer(data=loader, model=torch.nn.Linear(1, 1))
    with pytest.raises(JobError, match=r"data \(DataLoader\) has no state_dict"):
        next(ckpt.steps(3))
    counting = Counting()
    ckpt = Checkpointer(data=counting, model=torch.nn.Linear(1, 1))
    source = iter(counting)
    for _ in ckpt.steps(3):
        next(source)
    restored = Counting()
    ckpt = Checkpointer(data=restored, model=torch.nn.Linear(1, 1))
    assert next(ckpt.steps(4)) == 4
    assert restored.next == 3
    assert (tmp_path / "checkpoints").exists()
