"""spotwatchd: a spot interruption becomes a non-event.

Importing this package loads only the standard library, so that a training
environment can depend on it without inheriting the daemon's libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spotwatchd.client import connect as connect

__version__ = "0.1.0"
__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> Any:
    # Lazy: the daemon and its tools import this package too and need no client.
    if name == "connect":
        from spotwatchd.client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
