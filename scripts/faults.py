"""./scripts/faults: commits through random bad networks, beside a client that only tries again."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.fixtures import admin_client
from tests.servers.seaweed import ACCESS, SECRET, Seaweed
from tests.shell.store_protocol.storm import Sea, Verdict, plan, ride

BUCKET = "storms"
# The store's disk is emptied after so many: it keeps what was deleted for a while.
BATCH = 60


@contextmanager
def sea() -> Iterator[Sea]:
    """A store of our own, empty."""
    base = Path(tempfile.mkdtemp(prefix="sw-storm-"))
    server = Seaweed(base / "weed")
    (base / "weed").mkdir()
    server.start()
    try:
        admin_client(server).create_bucket(Bucket=BUCKET)
        yield Sea(server.port, BUCKET, ACCESS, SECRET, base)
    finally:
        server.kill()
        shutil.rmtree(base, ignore_errors=True)


def one(place: Sea, seed: int) -> Verdict:
    """The storm of this seed."""
    return ride(place, plan(seed))


def main() -> int:
    """Run, print what was seen and one JSON line, return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the first storm")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--slack", type=float, default=1.5, help="seconds we may be slower")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    seeds = list(range(options.seed, options.seed + options.runs))
    began = time.monotonic()
    verdicts: list[Verdict] = []
    for start in range(0, len(seeds), BATCH):
        with sea() as place, ThreadPoolExecutor(options.at_once) as pool:
            waiting = [pool.submit(one, place, seed) for seed in seeds[start : start + BATCH]]
            for done in as_completed(waiting):
                verdicts.append(done.result())
                tell(verdicts[-1])
    print(json.dumps({"rows": [v.__dict__ for v in verdicts]}), file=sys.stderr)
    return 0


def tell(v: Verdict) -> None:
    print(
        f"{v.seed} {v.scenario} D={v.deadline:.1f} ours={v.ours} oracle={v.oracle} ret={v.returned:.2f} "
        f"{'SOUND' if v.sound else 'BROKEN'} {'LATE' if v.late(0) else ''} {v.false} {v.lost} {v.said[:150]!r} {dict(v.hits)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
