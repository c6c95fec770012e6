"""./scripts/soak: random interruptions of the example training, compared with a control run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from spotwatchd.rehearsal.soak import LEASE, Outcome, control_run, plan, run


def _line(outcome: Outcome) -> str:
    what = outcome.plan
    how = "notice" if what.notice else "killed"
    verdict = "ok" if outcome.good else "FAILED"
    return (
        f"run {what.number:>3}  {verdict:<6} {how} {what.moment:<9} {what.store:<3} "
        f"{'identical' if outcome.identical else 'DIFFERENT'}, {outcome.lost_steps} steps twice "
        f"({outcome.lost_seconds:.1f} s; interval {outcome.interval:.0f} s), "
        f"{outcome.machines} machines, {outcome.seconds:.0f} s  {outcome.error}"
    )


def main() -> int:
    """Run, print a line per run, return 0 when all kept the promises."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--state-mb", type=int, default=0)
    parser.add_argument("--store", choices=("dir", "s3", "both"), default="both")
    parser.add_argument("--parallel", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    stores = ("dir", "s3") if options.store == "both" else (options.store,)
    print(
        f"soak: {options.runs} runs, seed {options.seed}, {options.steps} steps, "
        f"state +{options.state_mb} MB, lease {LEASE:g} s, background interval by default settings"
    )
    control = control_run(options.steps, options.state_mb)
    plans = [plan(number, options.seed, stores) for number in range(1, options.runs + 1)]
    outcomes = []
    with ThreadPoolExecutor(options.parallel) as pool:
        waiting = [
            pool.submit(run, each, options.steps, options.state_mb, control) for each in plans
        ]
        for done in as_completed(waiting):
            outcomes.append(done.result())
            print(_line(outcomes[-1]), flush=True)
    good = sum(outcome.good for outcome in outcomes)
    print(f"soak: {good} of {len(outcomes)} runs kept every promise")
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
