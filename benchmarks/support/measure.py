"""What a process took: seconds, CPU, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.errors import SpotwatchError

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, seconds of CPU, and the most memory, MiB."""

    seconds: float
    cpu: float
    rss: float


def seconds(series: Iterable[Took]) -> list[float]:
    """The times of all rounds."""
    return [took.seconds for took in series]


def command(argv: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Run a program to its end, start included. Raises SpotwatchError when it fails."""
    began = time.monotonic()
    process = subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None  # noqa: S101 - a pipe
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    elapsed = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        sys.stderr.buffer.write(said)
        raise SpotwatchError(f"{argv[0]} ended with {process.returncode}", where=" ".join(argv))
    return Took(elapsed, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its descendants so far, to the kernel's tick (10 ms)."""
    total = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))  # utime, stime, and those of waited-for children
    return total / _TICK


def forget_peak(pid: int) -> None:
    """Let the peak of memory begin anew."""
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def peak_of(pid: int) -> float:
    """MiB: the peaks of a process and its descendants together."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total / 1024
