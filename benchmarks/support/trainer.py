"""A training on one core: a model with AdamW, its state 2 GiB, one step after the other.

    python -m benchmarks.support.trainer MIB FOLDER

Saves its state into FOLDER once, says ``ready``, and trains until its input ends. Each step is
told as ``END SECONDS`` (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

_WIDTH = 2048
_BATCH = 16
_BYTES_PER_PARAMETER = 12  # the weight, and AdamW's two moments


def train(mib: int, folder: Path) -> None:
    """See the head of this file."""
    import torch

    torch.set_num_threads(1)
    layers = max(1, (mib << 20) // _BYTES_PER_PARAMETER // _WIDTH**2)
    model = torch.nn.Sequential(*(torch.nn.Linear(_WIDTH, _WIDTH) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = torch.rand(_BATCH, _WIDTH)

    def step() -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    step()  # AdamW makes its state at the first
    folder.mkdir()
    torch.save(model.state_dict(), folder / "model.pt")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    print("ready", flush=True)
    over = threading.Event()
    threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    while not over.is_set():
        began = time.monotonic()
        step()
        end = time.monotonic()
        print(f"{end:.6f} {end - began:.6f}", flush=True)


def _wait_for_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    train(int(sys.argv[1]), Path(sys.argv[2]))
