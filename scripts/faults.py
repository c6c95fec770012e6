"""./scripts/faults: random bad networks between the protocol and a real store.

Every storm is a function of its seed. Seven of ten are commits with a deadline, beside a plain
client that only tries again (tests/servers/oracle.py) in an equal weather; the others are
takeovers and restores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.fixtures import admin_client
from tests.servers.seaweed import ACCESS, SECRET, Seaweed
from tests.shell.store_protocol.sea import TIMEOUT, Sea, Verdict
from tests.shell.store_protocol.storms import SCENARIOS, storm

BUCKET = "storms"
# The store's disk is emptied after so many: it keeps what was deleted for a while.
BATCH = 100
# What we may be slower than a client without any pauses: one request that ran into its time-out,
# and one pause.
SLACK = TIMEOUT + 0.5


@contextmanager
def sea() -> Iterator[Sea]:
    """A store of our own, empty."""
    base = Path(tempfile.mkdtemp(prefix="sw-storm-"))
    (base / "weed").mkdir()
    server = Seaweed(base / "weed")
    server.start()
    try:
        admin_client(server).create_bucket(Bucket=BUCKET)
        place = Sea(server.port, BUCKET, base)
        try:
            yield place
        finally:
            place.close()
    finally:
        server.kill()
        shutil.rmtree(base, ignore_errors=True)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the first storm; the next follow")
    parser.add_argument("--scenario", choices=SCENARIOS, help="only storms of this kind")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--slack", type=float, default=SLACK, help="seconds we may be slower")
    parser.add_argument("--quiet", action="store_true", help="tell only of storms that went wrong")
    return parser.parse_args()


def live_through(wanted: argparse.Namespace, seeds: list[int]) -> Iterator[Verdict]:
    """All of them, several at once, on a fresh store now and then."""
    for start in range(0, len(seeds), BATCH):
        with sea() as place, ThreadPoolExecutor(wanted.at_once) as pool:
            waiting = [
                pool.submit(storm, place, seed, wanted.scenario or "")
                for seed in seeds[start : start + BATCH]
            ]
            for done in as_completed(waiting):
                yield done.result()


def again(late: Iterable[Verdict], slack: float) -> list[Verdict]:
    """Those that are late by themselves, too: nothing else kept the machine busy."""
    confirmed = []
    for verdict in late:
        with sea() as place:
            repeated = storm(place, verdict.seed, verdict.scenario)
        if repeated.late(slack):
            confirmed.append(repeated)
    return confirmed


def line(verdict: Verdict, slack: float) -> str:
    """One storm for people."""
    word = "ok" if verdict.sound else "BROKEN"
    if verdict.late(slack):
        word = "LATE" if verdict.sound else word
    times = ", ".join(
        f"{name} {'-' if value is None else f'{value:.2f}'}"
        for name, value in (("ours", verdict.ours), ("plain", verdict.oracle))
    )
    hits = " ".join(f"{kind}:{count}" for kind, count in sorted(verdict.hits.items()))
    trouble = "; ".join([*verdict.false, *verdict.lost]) or verdict.said[:100]
    return (
        f"storm {verdict.seed:>5}  {word:<6} {verdict.scenario:<7} {verdict.deadline:.1f} s: "
        f"{times}  [{hits}]  {trouble}"
    )


def summary(verdicts: list[Verdict], confirmed: list[Verdict], slack: float) -> dict[str, Any]:
    """The figures."""
    commits = [v for v in verdicts if v.scenario == "commit"]
    late = [v for v in commits if v.late(slack)]
    return {
        "name": "faults",
        "storms": len(verdicts),
        "scenarios": Counter(v.scenario for v in verdicts),
        "false_commits": sum(bool(v.false) for v in verdicts),
        "lost": sum(bool(v.lost) for v in verdicts),
        "broken_seeds": [v.seed for v in verdicts if not v.sound],
        "commits": {
            "ours_in_time": sum(v.ours is not None for v in commits),
            "plain_in_time": sum(v.oracle is not None for v in commits),
            "only_ours": sum(v.ours is not None and v.oracle is None for v in commits),
            "told_too_late_yet_committed": sum(v.listed for v in commits),
            "slack": slack,
            "late": len(late),
            "late_again_alone": len(confirmed),
            "late_seeds": [v.seed for v in confirmed],
            "late_without_slack": sum(v.late(0.0) for v in commits),
            "longest_overrun": round(max((v.returned - v.deadline for v in commits), default=0), 2),
        },
        "storms_with": Counter(kind for v in verdicts for kind in v.hits),
        "requests_hit": sum((v.hits for v in verdicts), Counter[str]()),
    }


def main() -> int:
    """Run, tell, return 0 when nothing was false, lost or late."""
    wanted = options()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull)
    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    began, verdicts = time.monotonic(), []
    for verdict in live_through(wanted, list(seeds)):
        verdicts.append(verdict)
        if not wanted.quiet or not verdict.sound or verdict.late(wanted.slack):
            print(line(verdict, wanted.slack), flush=True)
    confirmed = again([v for v in verdicts if v.late(wanted.slack)], wanted.slack)
    figures = summary(verdicts, confirmed, wanted.slack)
    figures["seconds"] = round(time.monotonic() - began)
    print(json.dumps(figures))
    return 1 if figures["broken_seeds"] or confirmed else 0


if __name__ == "__main__":
    sys.exit(main())
