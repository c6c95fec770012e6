"""Processes that a killed shim left behind: found by their environment, ended for good."""

from __future__ import annotations

from pathlib import Path

import psutil

# Descendants inherit it; its value is the attempt's directory, unique on the machine.
MARK = "SPOTWATCH_ATTEMPT_DIR"


def find(directory: Path) -> list[psutil.Process]:
    """Every live process of that attempt that the daemon may look at."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's
        if environment.get(MARK) == str(directory):
            found.append(process)
    return found


def end(directory: Path) -> None:
    """SIGKILL them, again and again until none is left (they may fork meanwhile)."""
    for _ in range(20):
        processes = find(directory)
        if not processes:
            return
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(processes, timeout=1.0)
