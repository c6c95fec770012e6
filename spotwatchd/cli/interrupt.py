"""``spotwatch interrupt``: a notice by hand, to rehearse an interruption on a real machine."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from spotwatchd.cli import options, words

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "interrupt", help="rehearse an interruption of this machine (root or the daemon's user)"
    )
    parser.add_argument(
        "--in", dest="seconds", type=_seconds, default=120.0, metavar="SECONDS",
        help="until the machine counts as gone (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--action", choices=("terminate", "stop", "hibernate", "reboot"), default="terminate"
    )
    options.common(parser)
    parser.set_defaults(func=_interrupt)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def _interrupt(args: argparse.Namespace) -> int:
    body = {"seconds": args.seconds, "action": args.action}
    answer = options.ask(args, "POST", "/v1/interrupt", body)
    if args.json:
        print(json.dumps(answer))
    else:
        print(f"notice given: {args.action} in {words.span(args.seconds)}; all jobs save now")
    return options.OK
