"""Ids are in the order of the commits, whoever chose one first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.errors import LeaseLost
from spotwatchd.store.memory import Memory
from spotwatchd.store.numbers import Numbers

TENURE = Tenure(3, "t")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbers")


def numbers_in(folder: Path) -> Numbers:
    memory = Memory(folder, "boot")
    memory.begin(3, "t")
    return Numbers(memory)


@given(
    plan=st.lists(st.sampled_from(["next", "reserve", "use", "use last", "unreserve"]), max_size=40)
)
def test_what_is_used_is_above_all_that_was_used_before(folder: Path, plan: list[str]) -> None:
    """Whatever is reserved, used and given back in between; and none is given out twice."""
    numbers, used, reserved = numbers_in(folder), list[CheckpointId](), list[CheckpointId]()
    for word in plan:
        if word == "next":
            used.append(numbers.next(TENURE, 1))
        elif word == "reserve":
            reserved.append(numbers.reserve(TENURE, 1))
        elif reserved:
            chosen = reserved.pop(-1 if word == "use last" else 0)
            if word == "unreserve":
                numbers.unreserve(chosen)
            elif numbers.use(chosen):
                used.append(chosen)
    assert used == sorted(set(used))
    assert set(used) <= numbers.in_use()


def test_a_reservation_leaves_room_below_for_what_comes_first(folder: Path) -> None:
    """An upload, and its second try, while a later checkpoint is being written."""
    numbers = numbers_in(folder)
    reserved = numbers.reserve(TENURE, 50)
    first, again = numbers.next(TENURE, 40), numbers.next(TENURE, 40)
    assert first < again < reserved
    assert numbers.in_use() == {first, again, reserved}
    assert numbers.use(reserved)
    assert numbers.next(TENURE, 60) > reserved


def test_a_reservation_that_was_overtaken_is_refused(folder: Path) -> None:
    """Two are written at once and the later one is sealed first."""
    numbers = numbers_in(folder)
    slow, fast = numbers.reserve(TENURE, 50), numbers.reserve(TENURE, 60)
    assert numbers.use(fast)
    assert not numbers.use(slow)
    assert not numbers.use(fast)


def test_a_number_is_not_used_again_after_a_crash(folder: Path) -> None:
    numbers = numbers_in(folder)
    reserved = numbers.reserve(TENURE, 50)
    assert Numbers(Memory(folder, "boot")).next(TENURE, 60) > reserved


def test_without_a_tenure_there_are_no_numbers(folder: Path) -> None:
    memory = Memory(folder, "boot")
    memory.forget()
    with pytest.raises(LeaseLost):
        Numbers(memory).next(TENURE, 1)
