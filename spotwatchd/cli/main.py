"""The ``spotwatch`` command: the one place where errors become text and exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from spotwatchd import __version__, cli
from spotwatchd.cli import options
from spotwatchd.errors import ConfigError, DaemonUnreachable, SpotwatchError

# They are programs of their own, no commands.
_PROGRAMS = ("main", "daemon")


def _commands() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(cli.__path__):
        if found.name not in _PROGRAMS:
            module = importlib.import_module(f"{cli.__name__}.{found.name}")
            if hasattr(module, "register"):
                yield module


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``spotwatch`` with every command."""
    parser = options.Parser(
        prog="spotwatch",
        description="Keeps training alive on machines that are taken away.",
        epilog=options.EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spotwatch {__version__}")
    options.common(parser, default=None)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _commands():
        module.register(subparsers)
    return parser


def status_of(error: SpotwatchError) -> int:
    """The exit status for an error."""
    if isinstance(error, DaemonUnreachable):
        return options.UNREACHABLE
    return options.WRONG_CONFIGURATION if isinstance(error, ConfigError) else options.REFUSED


def bounded(program: str, work: Callable[[], int]) -> int:
    """Do the work of a program; what goes wrong becomes text on stderr and an exit status."""
    try:
        status = work()
        sys.stdout.flush()
    except SpotwatchError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return status_of(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status."""
    args = build_parser().parse_args(argv)
    return bounded("spotwatch", lambda: int(args.func(args)))


if __name__ == "__main__":
    sys.exit(main())
