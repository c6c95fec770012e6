"""``spotwatch logs NAME``: what an attempt wrote, here or on a machine that is gone."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotwatchd.cli import options
from spotwatchd.cli.extra import daemon_extra
from spotwatchd.cli.follow import is_over
from spotwatchd.cli.private import nobody_there
from spotwatchd.cli.tail import Tail
from spotwatchd.errors import DaemonUnreachable, JobError
from spotwatchd.wire import http

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers

Document = dict[str, Any]

_STORE_SECONDS = 60.0
_TURN_SECONDS = 0.2
_LOOK_SECONDS = 2.0


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("logs", help="what a job wrote, also on a machine that is gone")
    parser.add_argument("name", metavar="NAME", help="the job")
    parser.add_argument("-f", "--follow", action="store_true", help="and what it writes from now")
    parser.add_argument("--attempt", type=_number, metavar="N", help="not the newest, but this one")
    parser.add_argument("--store", metavar="URL", help="of a job that this machine does not know")
    options.common(parser)
    parser.set_defaults(func=_logs)


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of an attempt (1, 2, ...)")
    return int(text)


def _logs(args: argparse.Namespace) -> int:
    document = None if args.store else _document(args)
    path = None if document is None else _local(document, args.attempt)
    if path is None:
        return _show(args, _from_store(args))
    if args.json and not args.follow:
        text = path.read_bytes().decode("utf-8", "replace")
        number = int(path.parent.name.partition("-")[2])
        return _show(args, {"job": args.name, "attempt": number, "machine": None, "text": text})
    return _copy(args, str(path))


def _document(args: argparse.Namespace) -> Document:
    found: Document = options.ask(args, "GET", f"/v1/jobs/{args.name}")
    return found


def _local(document: Document, attempt: int | None) -> Path | None:
    """The output of the attempt on this machine's disk, or None."""
    output = document.get("output")
    if not output:
        return None
    path = Path(output)
    if attempt is not None:
        name = re.sub(r"\d+", f"{attempt:06d}", path.parent.name)
        path = path.parent.parent / name / path.name
    return path if os.access(path, os.R_OK) else None


def _copy(args: argparse.Namespace, path: str) -> int:
    tail = Tail(sys.stdout.buffer)
    tail.follow(path)
    looked, over = time.monotonic(), not args.follow
    while True:
        tail.copy()
        if over:
            tail.close()
            return options.OK
        time.sleep(_TURN_SECONDS)
        if time.monotonic() - looked > _LOOK_SECONDS:
            looked = time.monotonic()
            document = _document(args)
            tail.follow(document.get("output") if args.attempt is None else path)
            over = is_over(document)


def _from_store(args: argparse.Namespace) -> Document:
    body = {} if args.attempt is None else {"attempt": args.attempt}
    try:
        if not args.store:
            socket, target = options.socket_of(args), f"/v1/jobs/{args.name}/log"
            found: Document = http.request(socket, "POST", target, body, timeout=_STORE_SECONDS)
            return found
    except DaemonUnreachable as error:
        if nobody_there(error):
            raise JobError(
                f"no daemon here knows {args.name}", remedy="pass --store URL"
            ) from error
        raise
    with daemon_extra("spotwatch logs --store"):
        from spotwatchd.store.control import log
        from spotwatchd.store.open import open_backend
    return log(open_backend(args.store), args.name, args.attempt)


def _show(args: argparse.Namespace, found: Document) -> int:
    if args.json:
        print(json.dumps(found))
        return options.OK
    if found.get("machine"):
        where = f"attempt {found['attempt']} on {found['machine']}, the end of it, from the store"
        print(f"{args.name}  {where}", file=sys.stderr)
    print(found["text"], end="")
    return options.OK
