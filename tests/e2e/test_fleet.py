"""Several jobs, several machines that come and go: judged by what the jobs themselves wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spotwatchd.rehearsal import fleet_log
from spotwatchd.rehearsal.fleet import Fleet, Plan
from spotwatchd.rehearsal.fleet_log import Attempt, Order, Up


@pytest.mark.timeout(150)
def test_a_small_fleet_keeps_every_promise(short_dir: Path) -> None:
    """Five jobs, two machines with three GPUs, one goes and another comes: the seed is printed."""
    plan = Plan(
        seed=7,
        seconds=12.0,
        gpus=(2, 1),
        jobs=5,
        work=3.0,
        life=(6.0, 9.0),
        pause=(0.5, 1.5),
        limit=120.0,
    )
    told: list[str] = []
    try:
        result = Fleet(plan, short_dir, told.append).run()
    except Exception as error:
        raise AssertionError("\n".join([repr(plan), *told, str(error)])) from error
    assert result.good, "\n".join([repr(plan), *told, *result.breaches])
    assert result.queues  # or its order would say nothing


# -- the judge is awake ------------------------------------------------------------------

ONE = Order("one", 1, 0, 0)
TWO = Order("two", 1, 1, 1)
UPS = {"m": Up(2, 0.0), "n": Up(1, 0.0)}
RAN = Attempt("one", "m", (0,), 10.0, 20.0, finished=True)


def test_it_sees_a_gpu_that_is_used_twice() -> None:
    """The same machine, the same GPU, the same moment."""
    other = Attempt("two", "m", (0, 1), 19.9, 30.0, finished=True)
    assert fleet_log.used_twice([RAN, other]) == ["one and two both had [0] of m"]
    assert not fleet_log.used_twice([RAN, replace(other, begun=20.0)])
    assert not fleet_log.used_twice([RAN, replace(other, machine="n")])
    assert not fleet_log.used_twice([RAN, replace(other, gpus=(1,))])


def test_it_sees_a_job_that_runs_twice() -> None:
    """On whatever machines."""
    other = Attempt("one", "n", (0,), 19.9, 30.0, finished=False)
    assert fleet_log.ran_twice([RAN, other]) == ["one ran on m and n at once"]
    assert not fleet_log.ran_twice([RAN, replace(other, begun=20.0)])


def test_it_sees_gpus_that_were_not_asked_for_or_are_not_there() -> None:
    """By their number, and by their index."""
    assert not fleet_log.wrongly_given([RAN], [ONE], UPS)
    assert fleet_log.wrongly_given([replace(RAN, gpus=())], [ONE], UPS)
    assert fleet_log.wrongly_given([replace(RAN, gpus=(2,))], [ONE], UPS)


def test_it_sees_what_did_not_end() -> None:
    """And what ended twice."""
    assert fleet_log.unfinished([RAN], [ONE, TWO]) == ["two ended 0 times"]
    assert fleet_log.unfinished([RAN, RAN], [ONE]) == ["one ended 2 times"]


def test_it_sees_a_start_out_of_order() -> None:
    """Only where the better one waited for long, fits, and the machine was up."""
    first = Attempt("three", "m", (1,), 1.0, 100.0, finished=True)
    late = replace(RAN, begun=30.0, ended=40.0)
    better = Attempt("two", "m", (0,), 50.0, 60.0, finished=True)
    ran, orders = [first, late, better], [ONE, TWO, Order("three", 1, 2, 2)]
    found = fleet_log.out_of_order(ran, orders, UPS, 15.0)
    assert found == ["one started on m before two"]
    assert fleet_log.starts_with_a_queue(ran, orders) == 2
    assert not fleet_log.out_of_order(ran, orders, UPS, 30.0)
    assert not fleet_log.out_of_order(ran, orders, {**UPS, "m": Up(2, 20.0)}, 15.0)
    wide = [ONE, replace(TWO, gpus=3), orders[2]]
    assert not fleet_log.out_of_order(ran, wide, UPS, 15.0)
    equal = [ONE, replace(TWO, priority=0), orders[2]]
    assert not fleet_log.out_of_order(ran, equal, UPS, 15.0)


def test_it_reads_the_lines_of_the_jobs(tmp_path: Path) -> None:
    """One attempt per process, from its first line to its last."""
    log = tmp_path / "log"
    line = {"job": "a", "machine": "m", "gpus": "0,2", "pid": 7, "step": 1, "word": "starts"}
    words = [("starts", 1.0), ("step", 2.0), ("ends", 3.0)]
    rows = [json.dumps({**line, "word": word, "t": at}) for word, at in words]
    log.write_text("\n".join(rows) + "\n")
    assert fleet_log.attempts(log) == [Attempt("a", "m", (0, 2), 1.0, 3.0, finished=True)]
    assert fleet_log.attempts(tmp_path / "none") == []
