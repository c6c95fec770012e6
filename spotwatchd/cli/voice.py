"""What an attached command says of its job: events as JSON on stdout, or lines on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any


class Voice:
    """Of the job ``name``."""

    def __init__(self, name: str, *, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json

    def show(self, event: dict[str, Any]) -> None:
        """An event of the daemon's."""
        if self._as_json:
            print(json.dumps(event), flush=True)
        elif event.get("line"):
            self.say(str(event["line"]))

    def say(self, line: str) -> None:
        """A line of our own, for people only."""
        if not self._as_json:
            print(f"{self._name}  {line}", file=sys.stderr, flush=True)
