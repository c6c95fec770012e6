"""How a person goes on, on another machine, with a process that nobody launched."""

from __future__ import annotations

import os
import re
import shlex
import sys

# What is known by default is written to the store: not where it may hold a secret.
_SECRET = re.compile("TOKEN|SECRET|KEY|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# PATH_MAX, as control/constraints.py ONE_LINE says.
_LONGEST = 4095


def by_hand(name: str) -> str | None:
    """The command to type, or None when it cannot be known.

    A notebook is named by Jupyter, a program by its command line and directory; in tmux the
    command is one that opens a session of the job's ``name`` again.
    """
    notebook = os.environ.get(
        "JPY_SESSION_NAME"
    )  # jupyter_server 2 and later: path of the notebook
    if "ipykernel" in sys.modules:
        return _fitting(f"open {notebook} in Jupyter and run all cells") if notebook else None
    command = _command()
    if command is not None and os.environ.get("TMUX"):
        command = f"tmux new-session -s {shlex.quote(name)} {shlex.quote(command)}"
    return None if command is None else _fitting(command)


def _command() -> str | None:
    words = getattr(sys, "orig_argv", [])
    if len(words) < 2 or any(_SECRET.search(word) for word in words):
        return None  # an interactive Python, or not for others to read
    try:
        return f"cd {shlex.quote(os.getcwd())} && {shlex.join(words)}"  # noqa: PTH109 - a str
    except OSError:
        return None  # the directory is gone


def _fitting(command: str) -> str | None:
    return command if command.isprintable() and len(command) <= _LONGEST else None
