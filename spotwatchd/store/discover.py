"""``python -m spotwatchd.store.discover URL``: unfinished jobs of a store, as JSON on stdout.

Each is ``name``, ``spec`` and ``state``; or ``name`` and ``problem`` (what, where, remedy, and
``again``: it may be read later), for a job whose documents cannot be read.

A process of its own, so that the daemon never loads a store's library.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from spotwatchd.errors import SpotwatchError, StoreError, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.jobs import list_unfinished
from spotwatchd.store.open import open_backend


def main() -> int:
    """Print the list; a refusal goes to stderr in one paragraph."""
    try:
        rows = look(open_backend(sys.argv[1]))
    except SpotwatchError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(rows))
    return 0


def look(backend: Backend) -> list[dict[str, Any]]:
    """The rows to print. Raises StoreError when the store cannot be listed."""
    problems: list[dict[str, Any]] = []

    def note(name: str, error: StoreError) -> None:
        problems.append({"name": name, "problem": _problem(error)})

    jobs = list_unfinished(backend, note)
    return [*({"name": job.name, "spec": job.spec, "state": job.state} for job in jobs), *problems]


def _problem(error: StoreError) -> dict[str, Any]:
    again = isinstance(error, StoreUnavailable)
    return {"what": error.what, "where": error.where, "remedy": error.remedy, "again": again}


if __name__ == "__main__":
    sys.exit(main())
