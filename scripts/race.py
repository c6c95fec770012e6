"""./scripts/race: daemons start the same unfinished job again and again; one owner each time."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spotwatchd.rehearsal.race import Race


def main() -> int:
    """Race, print what was seen, return 0 when each job had exactly one owner."""
    parser = argparse.ArgumentParser(prog="race", description=__doc__)
    parser.add_argument("--daemons", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4, help="jobs raced for at the same time")
    parser.add_argument("--lease", type=float, default=2.0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    race = Race(root, options.daemons, options.lease)
    try:
        race.boot()
        with ThreadPoolExecutor(options.at_once) as pool:
            rounds = list(pool.map(race.run, (f"job{n:04d}" for n in range(options.rounds))))
    finally:
        race.close()
        shutil.rmtree(root, ignore_errors=True)
    good = sum(each.good for each in rounds)
    owners = Counter(each.starts[0] for each in rounds if each.starts)
    for each in rounds:
        if not each.good:
            print(f"{each.job}: started on {each.starts}, seen as {each.states}")
    print(f"race: {options.daemons} daemons, {good} of {len(rounds)} jobs had exactly one owner")
    print(f"race: owners {dict(sorted(owners.items()))}")
    return 0 if good == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
