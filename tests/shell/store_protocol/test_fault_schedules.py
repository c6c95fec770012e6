"""What a bad network does to commits, takeovers and restores: with fixed seeds.

All storms of this module take place at the same time, since they mostly wait. ./scripts/faults
lives through as many others as one likes.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from spotwatchd.store.layout import checkpoints_prefix
from tests.servers.fixtures import BUCKET, seaweed
from tests.servers.forecast import KINDS, forecast
from tests.servers.seaweed import ACCESS, SECRET, Seaweed
from tests.servers.weather import CALM, Kind, Spell, Weather
from tests.shell.store_protocol.machine import ROOT, save
from tests.shell.store_protocol.sea import MIB, Sea, Verdict, small
from tests.shell.store_protocol.storm_commit import Commit, ride
from tests.shell.store_protocol.storm_restore import Rescue, rescue
from tests.shell.store_protocol.storms import storm

__all__ = ["seaweed"]

# Far more than a commit needs on the slowest machine.
PLENTY = 30.0
VALUES = {"delay": 0.3, "late": 0.5, "slow": 20_000.0, "drip": 3_000.0}
ONLY_WHEN_READ: tuple[Kind, ...] = ("garble_answer",)
WHEN_WRITTEN = tuple(kind for kind in KINDS if kind not in ONLY_WHEN_READ)
READ: tuple[Kind, ...] = (
    "garble_answer",
    "half",
    "cut",
    "stall_answer",
    "drip",
    "slowdown",
    "reset",
    "gone",
)
LARGE = {"part-0.bin": bytes(range(256)) * (20 * MIB // 256)}
IN_PARTS: tuple[tuple[Kind, str], ...] = (
    ("error200", "complete"),
    ("error200_done", "complete"),
    ("lost", "complete"),
    ("mute", "complete"),
    ("slowdown", "begin"),
    ("lost", "begin"),
    ("garble", "part"),
    ("reset_mid", "part"),
    ("error500", "part"),
)
COMMITS = (2, 7, 10, 14, 20, 24)
TAKEOVERS = (3, 13, 23)
RESCUES = (6, 16, 26)


def first_try(kind: Kind, *operations: str) -> Weather:
    """It hits the first attempt of everything; what is gone is gone for a second."""
    end = 1.0 if kind == "gone" else PLENTY
    value = VALUES.get(kind, 0.0)
    return Weather(1, (Spell(kind, 0.0, end, frozenset(operations), attempts=1, value=value),))


class Storms:
    """All that take place, by name."""

    def __init__(self, sea: Sea, pool: ThreadPoolExecutor) -> None:
        self.sea = sea
        self._begun: dict[str, Future[Verdict]] = {}
        self._plans: dict[str, Callable[[], Verdict]] = {}
        self._pool = pool
        for kind in WHEN_WRITTEN:
            self._begin(kind, ride, Commit(1, PLENTY, first_try(kind), small(1, 20)))
        for kind, operation in IN_PARTS:
            large = Commit(1, PLENTY, first_try(kind, operation), LARGE)
            self._begin(f"{kind} {operation}", ride, large)
        for read in READ:
            self._begin(f"{read} read", rescue, Rescue(1, PLENTY, first_try(read), small(1, 20)))
        for seed in (*COMMITS, *TAKEOVERS, *RESCUES):
            self._begin(str(seed), storm, seed)

    def _begin(self, name: str, live_through: Any, what: Any) -> None:
        self._plans[name] = functools.partial(live_through, self.sea, what)
        self._begun[name] = self._pool.submit(self._plans[name])

    def verdict(self, name: str) -> Verdict:
        """When it is over. One that has not begun begins now: nobody waits for a queue."""
        if self._begun[name].cancel():
            return self._plans[name]()
        return self._begun[name].result(55)


@pytest.fixture(scope="module")
def storms(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storms]:
    """Begun; their clients find credentials in the environment."""
    with pytest.MonkeyPatch.context() as environment, ThreadPoolExecutor(8) as pool:
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_CONFIG_FILE", "/dev/null")
        sea = Sea(seaweed.port, BUCKET, tmp_path_factory.mktemp("sea"))
        yield Storms(sea, pool)
        pool.shutdown(cancel_futures=True)
        sea.close()


@pytest.mark.parametrize("kind", WHEN_WRITTEN)
def test_a_commit_survives_the_failure_of_each_first_attempt(storms: Storms, kind: Kind) -> None:
    """Whatever is wrong with the first attempt of every request, the commit ends committed."""
    verdict = storms.verdict(kind)
    assert verdict.sound, verdict
    assert verdict.hits[kind] > 0
    assert verdict.ours is not None, verdict.said


@pytest.mark.parametrize(("kind", "operation"), IN_PARTS)
def test_a_large_file_survives(storms: Storms, kind: Kind, operation: str) -> None:
    """The same for each step of an upload in parts."""
    verdict = storms.verdict(f"{kind} {operation}")
    assert verdict.sound, verdict
    assert verdict.hits[kind] > 0
    assert verdict.ours is not None, verdict.said


@pytest.mark.parametrize("kind", READ)
def test_a_restore_survives_the_failure_of_each_first_attempt(storms: Storms, kind: Kind) -> None:
    """The newest checkpoint is restored, and nothing is held against it."""
    verdict = storms.verdict(f"{kind} read")
    assert verdict.sound, verdict
    assert verdict.hits[kind] > 0


@pytest.mark.parametrize("seed", [*COMMITS, *TAKEOVERS, *RESCUES])
def test_no_storm_makes_a_false_commit_or_loses_a_true_one(storms: Storms, seed: int) -> None:
    """Random weathers: what is told is so, what was committed stays, one owner at a time."""
    verdict = storms.verdict(str(seed))
    assert verdict.sound, verdict


def test_a_refusal_that_breaks_off_in_its_middle_is_tried_again(storms: Storms) -> None:
    """The manifest is reset on its way, and then the answer that it is absent stops half-way."""
    manifest = frozenset({"manifest"})
    reset = Spell("reset", 0.0, PLENTY, frozenset({"put"}), manifest, attempts=1)
    stall = Spell("stall_answer", 0.0, PLENTY, frozenset({"get"}), manifest, attempts=1)
    verdict = ride(storms.sea, Commit(1, PLENTY, Weather(1, (reset, stall)), small(1, 20)))
    assert verdict.sound, verdict
    assert verdict.hits == {"reset": 1, "stall_answer": 1}
    assert verdict.ours is not None, verdict.said


def test_a_store_that_stays_away_ends_with_the_deadline(storms: Storms) -> None:
    """No answer at all: the commit gives up by itself, and nothing is listed."""
    away = Weather(1, (Spell("gone", 0.0, 60.0),))
    verdict = ride(storms.sea, Commit(1, 1.0, away, small(1, 20)))
    assert verdict.sound, verdict
    assert (verdict.ours, verdict.oracle, verdict.listed) == (None, None, False)
    assert verdict.said


def test_the_plain_client_gets_through_where_it_is_possible(storms: Storms) -> None:
    """In calm weather and after an outage; what it put is there."""
    for weather, files in ((CALM, LARGE), (first_try("gone"), small(1, 20))):
        verdict = ride(storms.sea, Commit(1, PLENTY, weather, files))
        assert verdict.oracle is not None
    assert not verdict.late(0.0)


def test_the_audit_notices_bytes_that_are_not_those_committed(storms: Storms) -> None:
    """One byte of a listed checkpoint is changed behind everybody's back."""
    voyage, verdict = storms.sea.voyage(), Verdict(1, "commit", 1.0)
    hands = voyage.machine("a", storms.sea.calm)
    hands.take()
    hands.commit_seal(save(hands.machine.checkpoints, 10, small(1, 10)))
    assert voyage.audit({10: small(1, 10)}, verdict) == [10]
    assert verdict.sound
    keys = [each.key for each in storms.sea.calm.objects(checkpoints_prefix(voyage.job))]
    victim = next(key for key in keys if key.endswith("small.bin"))
    storms.sea.calm.put_bytes(victim, small(2, 10)["small.bin"])
    voyage.audit({10: small(1, 10)}, verdict)
    assert "cannot be restored" in verdict.false[0]
    hands.release()


def test_a_weather_follows_from_its_seed() -> None:
    """Equal seeds, equal weathers: a storm can be lived through again."""
    weathers = [forecast(seed, 5.0) for seed in range(300)]
    assert weathers == [forecast(seed, 5.0) for seed in range(300)]
    drawn = {spell.kind for weather in weathers for spell in weather.spells}
    assert drawn == {*KINDS}


def test_the_script_tells_its_figures_on_the_last_line() -> None:
    """A storm that does no harm: one commit, in time, nothing false, nothing lost."""
    script = [sys.executable, "scripts/faults.py", "--runs", "1", "--seed", "14"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=55, check=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["storms"], figures["false_commits"], figures["lost"]) == (1, 0, 0)
    assert figures["commits"]["ours_in_time"] == figures["commits"]["plain_in_time"] == 1
