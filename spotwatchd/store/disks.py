"""Which disks die with the machine."""

from __future__ import annotations

import os
from pathlib import Path

_IN_MEMORY = {"tmpfs", "ramfs"}
# The model that EC2's instance store volumes report (EC2 user guide, "NVMe instance store").
_INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"


def mortal_disk(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """What kind of short-lived disk a directory is on, or "" when it may stay.

    Args:
        path: an existing directory.
        mounts: the kernel's table, see proc(5).

    Instance store below RAID or LVM is not recognised. Raises OSError.
    """
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.read_text().splitlines():
        fields = line.split(" ")
        kind = fields[fields.index("-") + 1]
        if fields[2] == number and kind in _IN_MEMORY:
            return f"a disk in memory ({kind})"
    return "EC2 instance store" if _model(number) == _INSTANCE_STORE else ""


def _model(number: str) -> str:
    block = Path("/sys/dev/block") / number
    # A partition's entry lies inside its disk's.
    for candidate in (block / "device/model", block / "../device/model"):
        if candidate.exists():
            return candidate.read_text().strip()
    return ""
