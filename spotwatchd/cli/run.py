"""``spotwatch run``: register a job and stay with it. Standard library only, Python 3.10 too."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotwatchd.cli import code, external, interpreter, options, private
from spotwatchd.cli.environment import job_environment
from spotwatchd.cli.follow import Detached, Follower, exit_status, is_over
from spotwatchd.errors import DaemonUnreachable, JobError
from spotwatchd.wire import http
from spotwatchd.wire.attempt import looks_secret
from spotwatchd.wire.paths import SOCKET_NAME, SYSTEM_RUNTIME, private_runtime

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers

Document = dict[str, Any]

# The daemon looks into the store's settings before it answers.
_SUBMIT_SECONDS = 30.0


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="run a command as a job: saved when the machine goes away, resumed on the next",
        usage="spotwatch run --name NAME --checkpoint-dir DIR [option ...] [--] COMMAND ...",
    )
    add = parser.add_argument
    add("--name", required=True, metavar="NAME", help="of the job, the same on every machine")
    add("--checkpoint-dir", required=True, metavar="DIR", help="where the job keeps checkpoints")
    add("--store", metavar="URL", help="s3://BUCKET/PREFIX or file:///DIRECTORY")
    add(
        "--checkpoint-glob",
        metavar="GLOB",
        help="for programs that write plain files: which of them are checkpoints, e.g. '*.pt'",
    )
    add("--signal", type=_signal, metavar="SIG", help="that asks the program to save: SIGTERM")
    add("--interval", type=float, metavar="S", help="seconds between saves; 0: only when asked")
    add(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="one more variable for the job; it is written to the store as it is",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--continue", dest="change", action="store_const", const="continue",
        help="the name exists with another command: take the new one, keep checkpoints and run",
    )  # fmt: skip
    change.add_argument(
        "--new", dest="change", action="store_const", const="new",
        help="the name exists: begin another run at step 0; the old checkpoints are retired",
    )  # fmt: skip
    add(
        "--env-file",
        metavar="PATH",
        help="NAME=VALUE lines with secrets, on every machine at this path, mode 600; only the "
        "path goes to the store",
    )
    add(
        "--env-command",
        metavar="CMD",
        help="prints NAME=VALUE lines with secrets on whatever machine runs the job",
    )
    add("--prepare", metavar="CMD", help="run in the job's directory before each attempt")
    add(
        "--data",
        action="append",
        default=[],
        metavar="PATH",
        help="must be there before the job starts on a machine",
    )
    add("--gpus", type=int, metavar="N", help="GPUs that it gets for itself; 0: it needs none")
    add(
        "--priority",
        type=int,
        metavar="N",
        help="where not all fit on the machine, a higher one starts first; 0 if not given",
    )
    code.add_options(parser)
    external.add_option(parser)
    add("--detach", action="store_true", help="return at once; the job goes on")
    options.common(parser)
    add("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="and its arguments")
    parser.set_defaults(func=_run)


def _signal(text: str) -> str:
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name not in signal.Signals.__members__:
        raise argparse.ArgumentTypeError(f"{text!r} is not a signal, e.g. SIGTERM or SIGUSR1")
    return name


def _command(words: list[str]) -> list[str]:
    """The command with its program as an absolute path: the daemon has another PATH."""
    argv = words[1:] if words[:1] == ["--"] else words
    if not argv:
        raise JobError("no command was given", remedy="spotwatch run ... -- python train.py")
    found = shutil.which(argv[0])
    if found is None:
        raise JobError(
            f"no such program: {argv[0]}", where="PATH", remedy="give its path, or correct the name"
        )
    # Links are kept: the python of a virtual environment is one, and knows itself by its name.
    return [str(Path(found).absolute()), *argv[1:]]


def _checkpoint_directory(text: str) -> str:
    path = Path(os.path.abspath(text))  # noqa: PTH100 - without ".." and with links kept
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(
            f"the checkpoint directory cannot be made: {error.strerror}",
            where=str(path),
            remedy="choose one that you can write to",
        ) from error
    return str(path)


def _body(args: argparse.Namespace) -> Document:
    argv = _command(args.argv)
    body = {
        "name": args.name,
        "argv": argv,
        "cwd": str(Path.cwd()),
        "env": _environment(args),
        "checkpoint_dir": _checkpoint_directory(args.checkpoint_dir),
        "checkpoint_glob": args.checkpoint_glob,
        "store": args.store,
        "signal": args.signal,
        "interval": args.interval,
        "change": args.change,
        "env_file": _absolute(args.env_file),
        "env_command": args.env_command,
        "prepare": args.prepare,
        "gpus": args.gpus,
        "priority": args.priority,
        "data": [_absolute(path) for path in args.data] or None,
        "python": interpreter.recognise(argv[0]),
        **code.describe(args, Path.cwd(), _no_code(args)),
        **(external.fields() if args.external else {}),
    }
    return {key: value for key, value in body.items() if value is not None}


def _environment(args: argparse.Namespace) -> dict[str, str]:
    env = job_environment(os.environ, args.env)
    if args.gpus is not None:
        env.pop("CUDA_VISIBLE_DEVICES", None)  # each machine says which
    return env


def _absolute(text: str | None) -> str | None:
    return None if text is None else os.path.abspath(text)  # noqa: PTH100 - links are kept


def _no_code(args: argparse.Namespace) -> list[Path]:
    """What lies beside the code and is not of it."""
    found = [_absolute(args.checkpoint_dir), _absolute(args.env_file)]
    return [Path(path) for path in found if path is not None]


def _warn_of_secrets(args: argparse.Namespace) -> None:
    for word in args.env:
        name = word.partition("=")[0]
        if looks_secret(name):
            print(
                f"{args.name}  {name} is written to the store as it is: "
                "whoever may read the store reads it; --env-file keeps it on the machine",
                file=sys.stderr,
            )


def _submit(socket: str, body: Document) -> Document:
    answer: Document = http.request(socket, "POST", "/v1/jobs", body, timeout=_SUBMIT_SECONDS)
    return answer


def _start_private(socket: str) -> None:
    private.start(socket)
    print(
        "spotwatch: no spotwatchd is installed here, so a private one was started; "
        "it does not survive a reboot",
        file=sys.stderr,
    )


def _register(socket: str, body: Document) -> tuple[Document, bool]:
    """The job's document, and whether a private daemon was started for it."""
    try:
        return _submit(socket, body), False
    except DaemonUnreachable as error:
        # Where a daemon is installed, a private one beside it would run jobs twice.
        if socket == str(SYSTEM_RUNTIME / SOCKET_NAME) or not private.nobody_there(error):
            raise
    _start_private(socket)
    return _submit(socket, body), True


def _run(args: argparse.Namespace) -> int:
    if args.code_dry_run:
        code.dry_run(args, Path.cwd(), _no_code(args))
        return options.OK
    if args.external:
        external.check(args)
    socket = os.path.abspath(options.socket_of(args))  # noqa: PTH100 - links are kept
    body = _body(args)
    _warn_of_secrets(args)
    if Path(socket).parent == private_runtime():
        own = private_runtime()
        private.own_directory(own.parent)
        private.own_directory(own)
    document, started = _register(socket, body)
    if args.detach:
        print(json.dumps(document) if args.json else f"{args.name}  {document.get('state')}")
        return options.OK
    if is_over(document):
        return _already(args, document)
    if args.external:
        return external.Keeper(socket, body, as_json=args.json).run()
    revive = (lambda: _start_private(socket)) if started else None
    follower = Follower(socket, args.name, as_json=args.json, revive=revive)
    try:
        return follower.follow(document)
    except Detached as detached:
        return detached.status


def _already(args: argparse.Namespace, document: Document) -> int:
    if args.json:
        print(json.dumps(document))
    else:
        why = f": {document['reason']}" if document.get("reason") else ""
        print(f"{args.name}  already {document.get('outcome')}{why}", file=sys.stderr)
    return exit_status(document)
