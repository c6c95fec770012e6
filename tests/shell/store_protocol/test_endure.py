"""The endurance run, short."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.shell.store_protocol.machine import ROOT


def test_nothing_grows_and_all_is_restorable() -> None:
    """Thirty checkpoints of two owners, with a reader, a sweeper, and uploads left behind."""
    done = subprocess.run(
        [sys.executable, "scripts/endure.py", "--checkpoints", "30"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["wrong"] == []
    assert (report["stray_objects"], report["open_uploads"]) == (0, 0), report
    assert (report["owners"], report["restored"] > 0) == (2, True)
    assert done.returncode == 0, report
