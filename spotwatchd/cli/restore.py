"""``spotwatch restore``: a checkpoint from a store to a directory, verified, without a daemon."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from spotwatchd.cli import options
from spotwatchd.cli.extra import daemon_extra

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("restore", help="copy a checkpoint to a directory, verified")
    parser.add_argument("name", metavar="NAME", help="the job")
    parser.add_argument("--store", required=True, metavar="URL", help="where the job's store is")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="made if missing")
    parser.add_argument("--step", type=int, metavar="N", help="not the newest, but this one")
    options.common(parser)
    parser.set_defaults(func=_restore)


def _restore(args: argparse.Namespace) -> int:
    with daemon_extra("spotwatch restore"):
        from spotwatchd.store.jobs import restore_to
        from spotwatchd.store.open import open_backend
    directory = args.to.absolute()
    restored = restore_to(open_backend(args.store), args.name, directory, args.step)
    if args.json:
        print(json.dumps({"job": args.name, "restored": str(restored), "store": args.store}))
    else:
        print(f"{args.name}  restored and verified: {restored}")
    return options.OK
