"""What the daemon tells the service manager (sd_notify); silent where there is none."""

from __future__ import annotations

import sdnotify


class Service:
    """READY, STATUS and STOPPING."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def ready(self, status: str) -> None:
        """The socket answers and the journal is open."""
        self._notifier.notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The daemon ends; its jobs go on."""
        self._notifier.notify("STOPPING=1")
