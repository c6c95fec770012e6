"""Long seeded walks through the hostile world of test_properties.

Hypothesis finds short counter-examples and shrinks them, but draws its steps evenly. A
walk is weighted like life, mostly well with something odd now and then, and so gets to
the late phases of a drain. A failure names its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.core.test_properties import JOBS, HostileWorld

STEPS = 50
WALKS = 60
SOURCES = ("ec2-spot", "ec2-event")
Step = Callable[[HostileWorld, random.Random], None]


def _job(rng: random.Random) -> str:
    return rng.choice(JOBS)


def _complete(world: HostileWorld, rng: random.Random) -> None:
    if world.pending:
        ended = rng.choice(["", "", "", "", "", "", "finished", "crashed"])
        good, final = rng.random() < 0.8, rng.random() < 0.2
        world.complete(back=rng.choice([0, 0, 0, 1, 2]), good=good, final=final, ended=ended)


def _complete_any(world: HostileWorld, rng: random.Random) -> None:
    if world.pending:
        world.answer(rng.choice(world.pending), good=rng.random() < 0.5)


def _save(world: HostileWorld, rng: random.Random) -> None:
    ask = rng.choice(["open", "open", "none", "old"])
    world.save(job=_job(rng), ask=ask, measured=rng.random() < 0.5)


def _exit(world: HostileWorld, rng: random.Random) -> None:
    status = rng.choice([75, 75, 0, 1, -15, None])
    finished, really = rng.random() < 0.1, rng.random() < 0.2
    world.exit(job=_job(rng), status=status, finished=finished, really=really)


def _notice(world: HostileWorld, rng: random.Random) -> None:
    left = rng.choice([-500.0, -100.0, 0.0, 5.0, 60.0, 60.0, 108.0, 120.0, 120.0, 600.0])
    world.notice(source=rng.choice(SOURCES), left=left, fresh=rng.random() < 0.6)


def _add(world: HostileWorld, rng: random.Random) -> None:
    interval = rng.choice([None, None, 0.0, 20.0])
    world.add(job=_job(rng), managed=rng.random() < 0.8, interval=interval)


def _connect(world: HostileWorld, rng: random.Random) -> None:
    found = rng.choice(["", "", "sealed", "committed"])
    really, holds = rng.random() < 0.2, rng.random() < 0.6
    world.connect(job=_job(rng), really=really, holds=holds, found=found)


def _adopt(world: HostileWorld, rng: random.Random) -> None:
    world.adopt(job=_job(rng), asked=rng.randrange(6), told=rng.random() < 0.5)


def _report_again(world: HostileWorld, rng: random.Random) -> None:
    world.report_again(job=_job(rng), ask=rng.random() < 0.5, back=rng.randint(1, 4))


def _invent(world: HostileWorld, rng: random.Random) -> None:
    world.invent(job=_job(rng), no=rng.randrange(520), which=rng.randrange(6))


def _progress(world: HostileWorld, rng: random.Random) -> None:
    size, back = rng.choice([100, 9000]), rng.random() < 0.1
    world.progress(job=_job(rng), back=back, part=rng.randrange(5), size=size)


def _growing(world: HostileWorld, rng: random.Random) -> None:
    world.growing(job=_job(rng), part=rng.randrange(5), size=rng.choice([0, 100, 9000]))


WEIGHTED: list[tuple[int, Step]] = [
    (12, _complete),
    (8, _save),
    (8, lambda world, rng: world.wait(passed=rng.choice([0.1, 0.5, 1.0, 2.0, 5.0, 12.0]))),
    (1, lambda world, rng: world.wait(passed=rng.choice([31.0, 130.0, 500.0]))),
    (4, _connect),
    (4, _progress),
    (3, lambda world, rng: world.race(speed=rng.choice([5, 40]))),
    (2, _growing),
    (3, _exit),
    (3, _add),
    (3, _notice),
    (2, lambda world, rng: world.prosper(job=_job(rng))),
    (2, lambda world, rng: world.join(job=_job(rng))),
    (1, _adopt),
    (1, _complete_any),
    (1, _report_again),
    (1, _invent),
    (1, lambda world, rng: world.disconnect(job=_job(rng), really=rng.random() < 0.5)),
    (1, lambda world, rng: world.lose_lease(job=_job(rng), really=rng.random() < 0.3)),
    (1, lambda world, rng: world.stop(job=_job(rng), really=rng.random() < 0.3)),
    (1, lambda world, rng: world.remove(job=_job(rng), really=rng.random() < 0.5)),
    (1, lambda world, rng: world.withdraw(source=rng.choice(SOURCES), really=True)),
    (1, lambda world, rng: world.request(job=_job(rng))),
    (1, lambda world, rng: world.hint(key=rng.choice("xy"))),
    (1, lambda world, rng: world.exit_of_older_attempt(job=_job(rng))),
    (1, lambda world, _rng: world.wake_for_nothing()),
]


def walk(seed: int) -> HostileWorld:
    """One walk to its end, teardown included."""
    rng = random.Random(seed)
    world = HostileWorld()
    # Drawn in the order of JOBS: the order of a set changes from run to run.
    running = {job for job in JOBS if rng.random() < 0.6}
    joined = {job for job in JOBS if rng.random() < 0.7}
    world.boot(running=running, joined=joined)
    steps = [step for _, step in WEIGHTED]
    weights = [weight for weight, _ in WEIGHTED]
    for step in rng.choices(steps, weights, k=STEPS):
        step(world, rng)
    world.teardown()
    return world


@pytest.mark.parametrize("first", range(0, 10 * WALKS, WALKS))
def test_a_walk_ends_well(first: int) -> None:
    """Every invariant after every step, the drain ended by its timer, every job at rest."""
    for seed in range(first, first + WALKS):
        try:
            walk(seed)
        except Exception as error:  # the seed belongs to whatever went wrong
            raise AssertionError(f"walk {seed}: {error}") from error
