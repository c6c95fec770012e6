"""``spotwatch rm NAME``: the job and all that the store has of it go."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from spotwatchd.cli import options, words
from spotwatchd.cli.wish import say, show
from spotwatchd.errors import JobError

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers

_LOOK_SECONDS = 0.2


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "rm", help="remove a job and its checkpoints from the store (not those on this disk)"
    )
    parser.add_argument("name", metavar="NAME", help="the job; it is stopped first, unsaved")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--store", metavar="URL", help="of a job that this machine does not know, or without daemon"
    )
    options.common(parser)
    parser.set_defaults(func=_rm)


def _confirm(name: str) -> None:
    if sys.stdin.isatty():
        print(f"remove {name} with all its checkpoints from the store? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise JobError(f"{name} is not removed", remedy=f"spotwatch rm {name} --yes")


def _rm(args: argparse.Namespace) -> int:
    if not args.yes:
        _confirm(args.name)
    told = False
    while (answer := say(args, "remove"))["state"] == "removing":
        if not told:
            told = True
            print(f"{args.name}  is stopped first, wherever it runs", file=sys.stderr)
        time.sleep(_LOOK_SECONDS)
    return show(args, answer, f"removed, {words.count(answer.get('objects', 0), 'object')}")
