"""The ``spotwatchd`` command: read the configuration, then run the daemon."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spotwatchd import __version__
from spotwatchd.cli import options, text
from spotwatchd.cli.extra import daemon_extra, require_daemon
from spotwatchd.cli.main import bounded

if TYPE_CHECKING:
    from spotwatchd.config import Loaded

_EPILOG = """\
exit statuses: 0 ended on request, 1 refused, 64 wrong command line, 78 wrong configuration
settings: docs/configuration.md"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``spotwatchd``."""
    parser = options.Parser(
        prog="spotwatchd",
        description="Watches for interruptions and saves and resumes training jobs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spotwatchd {__version__}")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="print every setting with its origin, and start nothing",
    )
    parser.add_argument("--json", action="store_true", help="with --check-config: as JSON")
    parser.add_argument("--socket", metavar="PATH", help="instead of the setting socket")
    parser.add_argument(
        "--private",
        action="store_true",
        help="for one user: ends when no unfinished job is left (spotwatch run starts one)",
    )
    return parser


def _load(args: argparse.Namespace) -> Loaded:
    with daemon_extra("spotwatchd"):
        from spotwatchd.config import load
    given = {"socket": str(Path(args.socket).absolute())} if args.socket else {}
    path = Path(args.config) if args.config else None
    return load(path, os.environ, given=given, private=args.private)


def _show(loaded: Loaded, *, as_json: bool) -> int:
    from spotwatchd.config.pages import effective

    rows = list(effective(loaded))
    if as_json:
        names = ("name", "value", "origin")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    else:
        text.columns(("SETTING", "VALUE", "FROM"), rows)
    return options.OK


def _start(loaded: Loaded) -> int:
    from spotwatchd import logs
    from spotwatchd.daemon import run

    logs.configure(loaded.config.log.format, loaded.config.log.level)
    return run(loaded.config)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to end. Returns its exit status."""
    args = build_parser().parse_args(argv)
    return bounded("spotwatchd", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    require_daemon("spotwatchd")
    loaded = _load(args)
    return _show(loaded, as_json=args.json) if args.check_config else _start(loaded)


if __name__ == "__main__":
    sys.exit(main())
