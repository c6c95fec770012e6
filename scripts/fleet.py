"""./scripts/fleet: ten jobs on four simulated GPUs, over three machines that come and go.

What is promised: no GPU of a machine is used twice at a time, no job runs twice at a time, all
finish, and nobody starts before one whose turn it was. It is read from the jobs' own lines.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from spotwatchd.rehearsal.fleet import Fleet, Plan, Result


def _summary(result: Result) -> str:
    plan = result.plan
    per_machine = " + ".join(map(str, plan.gpus))
    return (
        f"fleet: seed {plan.seed}, {plan.jobs} jobs on {sum(plan.gpus)} GPUs ({per_machine}), "
        f"{result.seconds:.0f} s\n"
        f"fleet: {result.machines} machines, {result.noticed} went with a notice and "
        f"{result.killed} at once; {len(result.ran)} attempts, {result.queues} of them began "
        f"while others waited\n"
        f"fleet: {'every promise kept' if result.good else f'{len(result.breaches)} BREACHES'}"
    )


def main() -> int:
    """Run, print what happens, return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="fleet", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--gpus", type=int, nargs="+", default=[2, 1, 1], help="of each machine")
    parser.add_argument("--work", type=float, help="seconds of each job; default by --minutes")
    options = parser.parse_args()
    seconds = options.minutes * 60
    plan = Plan(
        options.seed,
        seconds,
        tuple(options.gpus),
        options.jobs,
        # About as much as the machines have time for while they come and go.
        work=options.work or seconds / 5,
    )
    print(f"fleet: seed {plan.seed}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    result = Fleet(plan, root, lambda line: print(line, flush=True)).run()
    for breach in result.breaches:
        print(breach)
    print(_summary(result))
    if result.good:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"fleet: kept for a look: {root}")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
