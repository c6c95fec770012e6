"""``spotwatch attach NAME``: stay with a job that runs already, as `run` would."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from spotwatchd.cli import options
from spotwatchd.cli.follow import Detached, Follower, exit_status, is_over

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "attach", help="a job's story and output from now on; Ctrl-C asks it to save and stop"
    )
    parser.add_argument("name", metavar="NAME", help="the job")
    options.common(parser)
    parser.set_defaults(func=_attach)


def _attach(args: argparse.Namespace) -> int:
    document = options.ask(args, "GET", f"/v1/jobs/{args.name}")
    if is_over(document):
        if args.json:
            print(json.dumps(document))
        else:
            print(f"{args.name}  already {document.get('outcome')}", file=sys.stderr)
        return exit_status(document)
    follower = Follower(options.socket_of(args), args.name, as_json=args.json, revive=None)
    try:
        return follower.follow(document)
    except Detached as detached:
        return detached.status
