"""What a job wrote can be read, also when the machine that it wrote on is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World

ROOT = Path(__file__).resolve().parents[2]
TALKS = (
    "import os, sys, time; n = os.environ['SPOTWATCH_ATTEMPT']; print('attempt', n, flush=True);"
    "print('last words of', n, flush=True); time.sleep(0.2); sys.exit(3 if n == '1' else 0)"
)


def _spotwatch(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spotwatchd.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SPOTWATCH_SOCKET": machine.socket},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def test_the_output_of_an_attempt_whose_machine_is_gone(world: World) -> None:
    """A crash on A, which is destroyed; B finishes the job and shows what A said."""
    first = world.machine()
    first.submit("job", [sys.executable, "-c", TALKS])
    world.until(
        lambda: list((world.root / "store" / "job" / "logs").glob("0001-m1.log")), "A's words"
    )
    first.destroy()
    second = world.machine()
    world.until(lambda: (second.job("job") or {}).get("state") == "finished", "B finishes it")
    here = _spotwatch(second, "logs", "job")
    number = second.job("job")["attempt"]  # A may have begun another one before it went
    assert here.stdout == f"attempt {number}\nlast words of {number}\n", here.stderr
    gone = _spotwatch(second, "logs", "job", "--attempt", "1")
    assert gone.stdout == "attempt 1\nlast words of 1\n", gone.stderr
    assert "on m1" in gone.stderr
    none = _spotwatch(second, "logs", "job", "--attempt", "9")
    assert none.returncode == 1
    assert "attempts with output there: 1," in none.stderr
    direct = _spotwatch(second, "logs", "job", "--attempt", "1", "--store", world.store)
    assert direct.stdout == gone.stdout
