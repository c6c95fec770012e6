"""``spotwatch demo``: a real training is interrupted, saved and resumed on a new machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spotwatchd.cli import options
from spotwatchd.cli.extra import daemon_extra

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers
    from spotwatchd.rehearsal.demo import Result


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo", help="interrupt a real training on this computer and resume it on a new machine"
    )
    parser.add_argument("--store", choices=("dir", "s3"), default="dir", help="default: dir")
    # Not options.common: here --json names a file.
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result as JSON")
    parser.set_defaults(func=_demo)


def _demo(args: argparse.Namespace) -> int:
    with daemon_extra("the demo, which runs real daemons,"):
        from spotwatchd.rehearsal import demo

    begun = time.monotonic()

    def say(who: str, line: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {who:<10} {line}", flush=True)

    try:
        result = demo.run(args.store, say)
    except TimeoutError as error:
        print(f"spotwatch demo: {error}", file=sys.stderr)
        return options.REFUSED
    _show(result)
    if args.json:
        demo.write_json(result, args.json)
    return options.OK if result.good else options.REFUSED


def _show(result: Result) -> None:
    from spotwatchd.cli.receipts import receipt_text

    print()
    if result.receipt is not None:
        print(receipt_text(result.receipt))
    print(
        f"\ninterrupted after step {result.interrupted_at_step:,}, resumed with step "
        f"{result.resumed_at_step:,}: {result.lost_steps} steps computed twice"
    )
    same = "identical to" if result.identical else "DIFFERENT from"
    print(f"final weights: {same} the uninterrupted run's ({json.dumps(result.weights_sha256)})")
