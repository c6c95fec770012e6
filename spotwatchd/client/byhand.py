"""How a person goes on, on another machine, with a process that nobody launched."""

from __future__ import annotations

import os
import shlex
import sys

from spotwatchd.wire.attempt import looks_secret

# PATH_MAX, as control/constraints.py ONE_LINE says.
_LONGEST = 4095


def by_hand(name: str) -> str | None:
    """The command to type, or None when it cannot be known.

    A notebook is named by Jupyter, a program by its command line and directory; in tmux the
    command is one that opens a session of the job's ``name`` again.
    """
    # jupyter_server 2 and later: path of the notebook.
    notebook = os.environ.get("JPY_SESSION_NAME")
    if "ipykernel" in sys.modules:
        return _fitting(f"open {notebook} in Jupyter and run all cells") if notebook else None
    command = _command()
    if command is not None and os.environ.get("TMUX"):
        command = f"tmux new-session -s {shlex.quote(name)} {shlex.quote(command)}"
    return None if command is None else _fitting(command)


def _command() -> str | None:
    words = getattr(sys, "orig_argv", [])
    if len(words) < 2 or any(map(looks_secret, words)):
        # An interactive Python; or it may hold a secret, and what is known is written to the store.
        return None
    try:
        return f"cd {shlex.quote(os.getcwd())} && {shlex.join(words)}"  # noqa: PTH109 - a str
    except OSError:
        return None  # the directory is gone


def _fitting(command: str) -> str | None:
    return command if command.isprintable() and len(command) <= _LONGEST else None
