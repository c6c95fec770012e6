"""A process with a training state that writes it when told: with torch.save, or at a rate.

    python -m benchmarks.support.writer MIB [BYTES/S]

Reads one path per line, writes the state there, and answers with the seconds that it took.
Between two writes the whole state changes. Without a rate it is torch.save of tensors; with one,
plain writes of 1 MiB that keep to it, as to a disk of that speed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
_TENSOR = 32 * MIB


def torch_writer(size: int) -> tuple[Callable[[Path], None], Callable[[], None]]:
    """How the state is written, and how it changes."""
    import torch

    count = max(1, size // _TENSOR)
    state = {f"layer{n}.weight": torch.rand(_TENSOR // 4) for n in range(count)}

    def change() -> None:
        for tensor in state.values():
            tensor.add_(0.001)

    return lambda path: torch.save(state, path), change


def paced_writer(size: int, rate: float) -> tuple[Callable[[Path], None], Callable[[], None]]:
    """Same, without torch."""
    block = bytearray(os.urandom(MIB))

    def write(path: Path) -> None:
        began = time.monotonic()
        with path.open("wb", buffering=0) as file:
            for number in range(1, size // MIB + 1):
                block[:8] = number.to_bytes(8, "big")
                file.write(block)
                time.sleep(max(0.0, began + number * MIB / rate - time.monotonic()))

    def change() -> None:
        block[8:] = os.urandom(MIB - 8)

    return write, change


def main() -> int:
    """See the head of this file."""
    size = int(sys.argv[1]) * MIB
    paced = len(sys.argv) > 2
    write, change = paced_writer(size, float(sys.argv[2])) if paced else torch_writer(size)
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        write(Path(line.strip()))
        print(time.monotonic() - began, flush=True)
        change()
        print("ready", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
