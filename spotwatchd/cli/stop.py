"""``spotwatch stop``, ``start``: what a job is to do, on every machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from spotwatchd.cli import options
from spotwatchd.cli.wish import Answer, say, show

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser(
        "stop", help="ask a job to save, then end it; it stays stopped everywhere until `start`"
    )
    parser.add_argument("name", metavar="NAME", help="the job")
    parser.add_argument("--no-save", action="store_true", help="end it at once")
    _common(parser)
    parser.set_defaults(func=_stop)
    parser = subparsers.add_parser("start", help="run a job again that was stopped or crashed")
    parser.add_argument("name", metavar="NAME", help="the job")
    _common(parser)
    parser.set_defaults(func=_start)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="URL", help="of a job that this machine does not know, or without daemon"
    )
    options.common(parser)


def _stop(args: argparse.Namespace) -> int:
    answer = say(args, "stop", save=not args.no_save)
    here = "asked to stop" if args.no_save else "asked to save and stop"
    said = here if answer["state"] == "stopping" else "stopped everywhere"
    return show(args, answer, f"{said}; it stays so until: spotwatch start {args.name}")


def _start(args: argparse.Namespace) -> int:
    answer = say(args, "start")
    return show(args, answer, _started(answer))


def _started(answer: Answer) -> str:
    if answer["state"] == "elsewhere":
        return "to be run by the next machine that may"
    return "started; see: spotwatch status"
