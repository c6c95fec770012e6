"""``spotwatch checkpoint NAME``: save now and go on."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from spotwatchd.cli import options

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("checkpoint", help="ask a job to save now and go on")
    parser.add_argument("name", metavar="NAME", help="the job")
    options.common(parser)
    parser.set_defaults(func=_checkpoint)


def _checkpoint(args: argparse.Namespace) -> int:
    answer = options.ask(args, "POST", f"/v1/jobs/{args.name}/ask")
    if args.json:
        print(json.dumps(answer))
    else:
        print(f"{args.name}  asked to save; see: spotwatch status")
    return options.OK
