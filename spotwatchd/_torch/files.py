"""The two files of a checkpoint: ``state.pt`` (torch.save) and ``meta.json``."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from spotwatchd.errors import Damaged

FORMAT = "spotwatchd-torch"
VERSION = 1


def write(directory: Path, step: int, state: dict[str, Any], *, finished: bool) -> None:
    """Write both files. ``state`` is {"parts": {...}, "data": {...}, "rng": {...}}."""
    torch.save(state, directory / "state.pt")
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "parts": sorted(state["parts"]),
        "finished": finished,
        "torch": torch.__version__,
    }
    (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (meta, state).

    Raises:
        Damaged: not a checkpoint of this format, of a newer version, or unreadable.
    """
    meta = _read_meta(directory / "meta.json")
    path = directory / "state.pt"
    try:
        return meta, _load(path)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Damaged(f"cannot read the checkpoint: {error}", where=str(path)) from error


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Damaged(
            f"not a checkpoint that Checkpointer wrote: {error}",
            where=str(path),
            remedy="give this script a checkpoint directory of its own",
        ) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise Damaged(f"not a {FORMAT} checkpoint", where=str(path))
    if not isinstance(meta.get("version"), int) or meta["version"] > VERSION:
        raise Damaged(
            f"written by a newer spotwatchd (format version {meta.get('version')}; this reads "
            f"{VERSION})",
            where=str(path),
            remedy="install the spotwatchd that wrote it",
        )
    return meta


def _load(path: Path) -> Any:
    # On the CPU: load_state_dict moves each tensor to where it belongs, one at a time. Not
    # mapped: an optimizer would keep the file as its state (measured with AdamW).
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Somebody's state_dict holds more than tensors and plain values. It is this job's own
        # checkpoint, from a place whose writers may choose this job's command line anyway.
        return torch.load(path, map_location="cpu", weights_only=False)
