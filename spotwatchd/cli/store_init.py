"""``spotwatch store init URL``: make a store, and prove that it can hold leases."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from spotwatchd.cli import options
from spotwatchd.cli.extra import daemon_extra

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("store", help="prepare a store")
    orders = parser.add_subparsers(dest="order", metavar="ORDER", required=True)
    init = orders.add_parser("init", help="mark a directory, or check a bucket, as a store")
    init.add_argument("url", metavar="URL", help="file:///DIRECTORY or s3://BUCKET/PREFIX")
    options.common(init)
    init.set_defaults(func=_init)


def _init(args: argparse.Namespace) -> int:
    with daemon_extra("spotwatch store init"):
        from spotwatchd.store.init import init_store
    said = init_store(args.url)
    print(json.dumps({"url": args.url, "said": said}) if args.json else said)
    return options.OK
