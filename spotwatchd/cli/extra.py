"""What to say when a command needs libraries that the base install does not have."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from spotwatchd.errors import ConfigError

# One look decides; a daemon without any of these does not start.
_LIBRARIES = ("aiohttp", "boto3", "psutil", "structlog")


def _missing(what: str, library: str) -> ConfigError:
    return ConfigError(
        f"{what} needs the library {library}, which is not installed",
        where=sys.executable,
        remedy="pip install 'spotwatchd[daemon]'",
    )


def require_daemon(what: str) -> None:
    """Raise ConfigError when a daemon cannot run in this environment."""
    if sys.version_info < (3, 11):
        raise ConfigError(
            f"{what} needs Python 3.11 or later, and this is {sys.version.split()[0]}",
            where=sys.executable,
            remedy="install the daemon with a newer Python; this one can go on training",
        )
    for library in _LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise _missing(what, library)


@contextmanager
def daemon_extra(what: str) -> Iterator[None]:
    """Turn a missing library into a ConfigError. Ours is never missing: that would be a bug."""
    try:
        yield
    except ModuleNotFoundError as error:
        top = (error.name or "").partition(".")[0]
        if top in ("", "spotwatchd") or top in sys.stdlib_module_names:
            raise
        raise _missing(what, top) from error
