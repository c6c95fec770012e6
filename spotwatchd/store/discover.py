"""``python -m spotwatchd.store.discover URL``: unfinished jobs of a store, as JSON on stdout.

A process of its own, so that the daemon never loads a store's library.
"""

from __future__ import annotations

import json
import sys

from spotwatchd.errors import SpotwatchError
from spotwatchd.store.jobs import list_unfinished
from spotwatchd.store.open import open_backend


def main() -> int:
    """Print the list; a refusal goes to stderr in one paragraph."""
    try:
        jobs = list_unfinished(open_backend(sys.argv[1]))
    except SpotwatchError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [{"name": job.name, "spec": job.spec, "state": job.state} for job in jobs]
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
