"""A tiny training whose every number depends on all random generators and on its data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from spotwatchd.client import connect
from spotwatchd.torch import Checkpointer

Hook = Callable[[int, Checkpointer], None]


class Numbers(Dataset[Tensor]):
    """0, 1, 2 ...; with ``noise``, augmented from torch's and Python's generators."""

    def __init__(self, size: int = 20, *, noise: bool = False) -> None:
        self.size = size
        self.noise = noise
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        self.loaded.append(index)
        value = torch.tensor([float(index)])
        return value + torch.rand(1) + random.random() if self.noise else value


class Flow(IterableDataset[Tensor]):
    """The same numbers, without an index."""

    def __iter__(self) -> Any:
        return (torch.tensor([float(value)]) for value in range(20))


class Run:
    """One attempt in ``directory``.

    Attributes:
        trace: (step, batches, draws) of each turn that this attempt computed.
    """

    def __init__(self, directory: Path, loader: Iterable[Any], **options: Any) -> None:
        self.model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.trace: list[tuple[int, list[float], list[float]]] = []
        replay = options.pop("replay", "exact")
        socket = options.pop("socket", None)
        job = connect("tiny", directory, socket=socket)
        self.ckpt = Checkpointer(job=job, model=self.model, optimizer=self.optimizer, **options)
        self.batches = self.ckpt.batches(loader, replay=replay)

    def go(self, total: int, hook: Hook | None = None, *, accumulate: int = 1) -> Run:
        for step in self.ckpt.steps(total):
            seen: list[float] = []
            self.optimizer.zero_grad()
            for _ in range(accumulate):
                batch = next(self.batches)
                seen += batch.flatten().tolist()
                self.model(batch).square().mean().backward()
            self.optimizer.step()
            draws = [random.random(), float(np.random.rand()), float(torch.rand(1))]  # noqa: NPY002
            self.trace.append((step, seen, draws))
            if hook is not None:
                hook(step, self.ckpt)
        return self

    def weights(self) -> list[float]:
        return [x for p in self.model.parameters() for x in p.flatten().tolist()]


def seed(number: int) -> None:
    """Seed all three generators: another number before a resume shows that state was restored."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - the global one is what training uses
    torch.manual_seed(number)
