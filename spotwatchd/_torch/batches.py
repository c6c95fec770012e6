"""Batches without end, and how to find the place again.

A loader that can tell its position (``state_dict``/``load_state_dict``, as torchdata's
StatefulDataLoader) is asked. Any other loader is replayed: the generators are put back to
where they were when the epoch began, the same order is made again, and what was consumed
is skipped. What a loader prefetched was not consumed: only what ``next()`` gave out counts.

Skipping happens on the sampler, which loads nothing, wherever that gives the same run:

* no worker processes: what a dataset drew from the generators while it loaded is part of
  the generators' state at the save, which is restored afterwards;
* worker processes: their generators live in them and are lost with them. ``replay="exact"``
  loads the skipped batches once more, so that they draw what they drew;
  ``replay="order"`` skips on the sampler: right for datasets that draw no random numbers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset

from spotwatchd._torch import rng
from spotwatchd.errors import JobError

T = TypeVar("T")


class ReplayWarning(UserWarning):
    """Batches are loaded a second time to find the place in the data again."""


class Batches(Iterator[T], Generic[T]):
    """An iterator over ``loader``, epoch after epoch.

    Attributes:
        epoch: 0, 1, ...
        position: batches given out in this epoch.
        taken: batches given out by this process.
    """

    def __init__(self, loader: Iterable[T], *, replay: str = "exact") -> None:
        _refuse(loader, replay)
        self.loader = loader
        self.epoch = self.position = self.taken = 0
        self._replay = replay
        self._iterator: Iterator[T] | None = None
        self._began: dict[str, Any] | None = None  # generators at the start of the epoch
        self._pending: dict[str, Any] | None = None

    def __iter__(self) -> Batches[T]:
        return self

    def __next__(self) -> T:
        if self._pending is not None:
            self._find_place(self._pending)
        if self._iterator is None:
            self._begin()
        batch = self._draw()
        self.position += 1
        self.taken += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, and what is needed to find it again."""
        if self._pending is not None:  # restored, and nothing was taken since
            return self._pending
        state = {"epoch": self.epoch, "position": self.position, "began": self._began}
        if _tells_position(self.loader) and self._iterator is not None:
            state["loader"] = self.loader.state_dict()  # type: ignore[attr-defined] # checked
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go there at the next ``next()``, when the training is under way."""
        if self.taken:
            raise JobError(
                "batches were taken before the first turn of steps()",
                where="Checkpointer.batches()",
                remedy="take the first batch inside the loop: state is restored at its first turn",
            )
        self.epoch, self.position = state["epoch"], state["position"]
        self._pending = state

    # -- the epoch -----------------------------------------------------------------------

    def _draw(self) -> T:
        while True:
            assert self._iterator is not None  # noqa: S101 - for the type checker
            try:
                return next(self._iterator)
            except StopIteration:
                if self.position == 0:
                    raise _empty(self.loader) from None
            self.epoch, self.position = self.epoch + 1, 0
            self._begin()

    def _begin(self) -> None:
        self._tell_epoch()
        self._began = {"rng": rng.capture(), "own": [g.get_state() for g in _own(self.loader)]}
        self._iterator = iter(self.loader)

    def _tell_epoch(self) -> None:
        # DistributedSampler and its like shuffle by the epoch's number and must be told it.
        for sampler in _samplers(self.loader):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)

    # -- the way back --------------------------------------------------------------------

    def _find_place(self, state: dict[str, Any]) -> None:
        self._pending = None
        if state["began"] is None or state["position"] == 0:
            return
        self._began = state["began"]
        self._tell_epoch()
        if "loader" in state:
            with rng.aside():
                self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]
                self._iterator = iter(self.loader)
        else:
            self._iterator = self._replayed(state["began"])

    def _replayed(self, began: dict[str, Any]) -> Iterator[T]:
        with rng.aside():
            if not self._can_skip():
                self._rewind(began)
                return self._load_again()
            with _skipping(self.loader) as sampler:
                self._rewind(began)
                sampler.left_out = self.position
                iterator = iter(self.loader)
                sampler.skip()  # here, where what the sampler draws leaves no trace
            return iterator

    def _rewind(self, began: dict[str, Any]) -> None:
        """Make everything as it was when the epoch began."""
        if self.epoch > 0 and getattr(self.loader, "persistent_workers", False):
            iter(self.loader)  # starting the workers draws; later epochs do not start them
        rng.restore(began["rng"])
        for generator, kept in zip(_own(self.loader), began["own"], strict=True):
            generator.set_state(kept)

    def _can_skip(self) -> bool:
        if not isinstance(self.loader, DataLoader) or isinstance(
            self.loader.dataset, IterableDataset
        ):
            return False
        return self.loader.num_workers == 0 or self._replay == "order"

    def _load_again(self) -> Iterator[T]:
        iterator, started = iter(self.loader), time.monotonic()
        for _ in range(self.position):
            next(iterator)
        if self.position and not isinstance(self.loader, (list, tuple)):
            warnings.warn(
                f"loaded {self.position} batches of epoch {self.epoch} a second time to find the "
                f"place again: {time.monotonic() - started:.1f} s. A loader with state_dict() "
                'does without; so does batches(loader, replay="order") for a DataLoader whose '
                "dataset draws no random numbers",
                ReplayWarning,
                stacklevel=5,
            )
        return iterator


class _Skipping:
    """A sampler whose next pass leaves out the first ``left_out`` entries.

    They are left out when the first entry is asked for, not when the pass begins: a loader
    draws its own seed in between, and the order of draws decides the order of the data.
    """

    def __init__(self, sampler: Any) -> None:
        self.left_out = 0
        self._sampler = sampler
        self._entries: Iterator[Any] = iter(())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        self._entries = iter(self._sampler)
        return self._pass(self._entries)

    def _pass(self, entries: Iterator[Any]) -> Iterator[Any]:
        self.skip()
        yield from entries

    def skip(self) -> None:
        """Leave out now what is still to be left out of the newest pass."""
        count, self.left_out = self.left_out, 0
        for _ in range(count):
            next(self._entries, None)


@contextmanager
def _skipping(loader: Any) -> Iterator[_Skipping]:
    # An iterator takes the loader's sampler once, when it is made. DataLoader refuses the
    # assignment through setattr, to keep people from changing a loader under way.
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    original = vars(loader)[name]
    vars(loader)[name] = sampler = _Skipping(original)
    try:
        yield sampler
    finally:
        vars(loader)[name] = original


def _refuse(loader: Any, replay: str) -> None:
    if replay not in ("exact", "order"):
        raise JobError(f"replay={replay!r}", where="batches()", remedy='"exact" or "order"')
    if not hasattr(loader, "__iter__"):
        raise JobError(f"{type(loader).__name__} cannot be iterated", where="batches()")
    if isinstance(loader, Iterator) and not _tells_position(loader):
        raise JobError(
            f"a bare {type(loader).__name__} cannot tell its position and cannot start again",
            where="batches()",
            remedy="pass the DataLoader itself, or something with state_dict/load_state_dict",
        )


def _empty(loader: Any) -> JobError:
    return JobError(f"{type(loader).__name__} gave no batch in a whole epoch", where="batches()")


def _tells_position(loader: Any) -> bool:
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def _samplers(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    found = [getattr(loader, "sampler", None), batch_sampler]
    found.append(getattr(batch_sampler, "sampler", None))
    return list({id(sampler): sampler for sampler in found if sampler is not None}.values())


def _own(loader: Any) -> list[torch.Generator]:
    """Generators that the loader and its samplers keep to themselves, each once."""
    holders = [loader, *_samplers(loader)]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
