"""Where things are by default, for every party: daemon, client, command line."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_RUNTIME = Path("/run/spotwatchd")
SYSTEM_STATE = Path("/var/lib/spotwatchd")
SOCKET_NAME = "spotwatchd.sock"
# In the directory of a job's own socket.
BOARD_NAME = "board"


def private_runtime() -> Path:
    """The runtime directory of a daemon that a user runs for themselves."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/spotwatchd-{os.getuid()}"  # noqa: S108 - checked: 0700 and ours
    return Path(base) / "spotwatchd"


def find_socket() -> str:
    """The socket to talk to: $SPOTWATCH_SOCKET, the system's, else the user's own."""
    named = os.environ.get("SPOTWATCH_SOCKET")
    if named:
        return named
    system = SYSTEM_RUNTIME / SOCKET_NAME
    if system.exists():
        return str(system)
    return str(private_runtime() / SOCKET_NAME)
