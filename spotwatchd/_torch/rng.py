"""Every random number generator that training draws from, as one value.

The value holds tensors and plain numbers only, so that ``torch.load(weights_only=True)``
reads it. NumPy counts when the process has imported it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

State = dict[str, Any]


def capture() -> State:
    """The state of Python's, NumPy's (if imported), torch's CPU and (if in use) CUDA generators."""
    version, internal, gauss = random.getstate()
    state: State = {
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        "cpu": torch.get_rng_state(),
    }
    if "numpy" in sys.modules:
        state["numpy"] = _numpy_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch has no types there
        state["cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def restore(state: State) -> None:
    """Put every generator back to where ``capture`` found it."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    torch.set_rng_state(state["cpu"])
    if "numpy" in state:
        _restore_numpy(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        _restore_cuda(state["cuda"])


@contextmanager
def aside(state: State | None = None) -> Iterator[None]:
    """What is drawn inside (from ``state`` on, if given) leaves no trace outside."""
    kept = capture()
    try:
        if state is not None:
            restore(state)
        yield
    finally:
        restore(kept)


def _numpy_state() -> State:
    import numpy as np

    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    return {
        "name": str(name),
        "keys": torch.tensor([int(key) for key in keys], dtype=torch.int64),
        "position": int(position),
        "has_gauss": int(has_gauss),
        "cached": float(cached),
    }


def _restore_numpy(state: State) -> None:
    import numpy as np

    keys = np.array(state["keys"].tolist(), dtype=np.uint32)
    place = (state["position"], state["has_gauss"], state["cached"])
    np.random.set_state((state["name"], keys, *place))  # noqa: NPY002 - the global one


def _restore_cuda(states: list[torch.Tensor]) -> None:
    # A machine with fewer devices cannot continue the streams of the missing ones.
    for device, state in enumerate(states[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
