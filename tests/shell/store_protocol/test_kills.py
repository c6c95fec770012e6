"""An owner killed at every single step, and what the next one makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.store_protocol.machine import ROOT

# There are about 130 steps. Each share tries every 12th; a restart, which finds most of what
# was left half done, tries them all, and the other two ways a quarter of them.
SHARES = 12
TRIED = [("restart", share) for share in range(SHARES)] + [
    (how, share) for how in ("reboot", "elsewhere") for share in (1, 5, 9)
]


@pytest.mark.parametrize(("how", "share"), TRIED)
def test_killed_at_every_step(tmp_path: Path, how: str, share: int) -> None:
    """What was committed stays restorable; the next owner converges and leaves no stray."""
    command = [sys.executable, "-m", "tests.shell.store_protocol.killer", str(tmp_path)]
    done = subprocess.run(
        [*command, str(share + 1), str(SHARES), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    answer = json.loads(done.stdout)
    assert answer["wrong"] == []
    assert answer["last"] > 60  # fewer would mean that the steps are not counted
