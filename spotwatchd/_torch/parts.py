"""Named parts of the training state: asked for, checked, and given back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spotwatchd.errors import JobError


def require_stateful(parts: Mapping[str, Any], *, remedy: str = "") -> None:
    """Raise JobError for the first part without state_dict and load_state_dict."""
    for name, part in parts.items():
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise JobError(
                f"{name} ({type(part).__name__}) has no state_dict and load_state_dict",
                where=f"Checkpointer({name}=...)",
                remedy=remedy or "give it both, or keep it out",
            )


def collect(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each part."""
    return {name: part.state_dict() for name, part in parts.items()}


def load_parts(parts: Mapping[str, Any], states: Mapping[str, Any], path: Path) -> None:
    """Give each part its state.

    Raises:
        JobError: the checkpoint has other parts than the script, or a part refuses its state.
    """
    _require_same(parts, states, path)
    for name, part in parts.items():
        _give(name, part, states[name], path)


def _give(name: str, part: Any, state: Any, path: Path) -> None:
    try:
        part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise JobError(
            f"{name} does not fit the checkpoint: {error}",
            where=str(path),
            remedy="has the script changed since? Start anew under another name",
        ) from error


def _require_same(parts: Mapping[str, Any], states: Mapping[str, Any], path: Path) -> None:
    missing, unexpected = sorted(parts.keys() - states), sorted(states.keys() - parts)
    if missing or unexpected:
        clauses = [f"it lacks {', '.join(missing)}"] if missing else []
        clauses += [f"the script lacks {', '.join(unexpected)}"] if unexpected else []
        raise JobError(
            f"the checkpoint and the script name different parts: {'; '.join(clauses)}",
            where=str(path),
            remedy="pass the same names to Checkpointer, or start anew under another name",
        )
