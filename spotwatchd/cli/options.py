"""What the commands' parsers share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from spotwatchd.wire import http
from spotwatchd.wire.paths import find_socket

OK, REFUSED, WRONG_COMMAND_LINE, UNREACHABLE, SAVED, WRONG_CONFIGURATION = 0, 1, 64, 69, 75, 78

EXIT_STATUSES = """\
exit statuses:
  0    done; of an attached `run`: the job finished
  1    refused
  64   wrong command line
  69   the daemon cannot be reached
  75   of an attached `run`: saved, because the machine goes away
  78   wrong configuration
An attached `run` otherwise returns the job's own status (128 + N after signal N)."""

if TYPE_CHECKING:
    # argparse gives what add_subparsers returns a private name, generic in stubs only.
    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001


class Parser(argparse.ArgumentParser):
    """A parser that exits with the documented status."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit 64 (EX_USAGE)."""
        self.exit(
            WRONG_COMMAND_LINE, f"{self.prog}: {message}\n  fix     see: {self.prog} --help\n"
        )


def common(parser: argparse.ArgumentParser, *, default: Any = argparse.SUPPRESS) -> None:
    """Add --socket and --json. A sub-command's keep what was given before the command."""
    parser.add_argument(
        "--socket", metavar="PATH", default=default, help="the daemon's socket ($SPOTWATCH_SOCKET)"
    )
    parser.add_argument(
        "--json", action="store_true", default=default or False, help="see docs/cli-json.md"
    )


def socket_of(args: argparse.Namespace) -> str:
    """The socket that the command talks to."""
    return args.socket or find_socket()


def ask(args: argparse.Namespace, method: str, target: str, body: Any = None) -> Any:
    """One request to the daemon. Raises DaemonUnreachable or ProblemError."""
    return http.request(socket_of(args), method, target, body)
