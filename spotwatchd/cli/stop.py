"""``spotwatch stop NAME``: save, then end the job here."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from spotwatchd.cli import options

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("stop", help="ask a job to save, then end it")
    parser.add_argument("name", metavar="NAME", help="the job")
    options.common(parser)
    parser.set_defaults(func=_stop)


def _stop(args: argparse.Namespace) -> int:
    answer = options.ask(args, "POST", f"/v1/jobs/{args.name}/stop")
    if args.json:
        print(json.dumps(answer))
    else:
        print(f"{args.name}  asked to save and stop; see: spotwatch status")
    return options.OK
