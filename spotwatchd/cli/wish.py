"""What stop, start and rm share: the way through the daemon, or straight to a store."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from spotwatchd.cli import options, private
from spotwatchd.cli.extra import daemon_extra
from spotwatchd.cli.private import nobody_there
from spotwatchd.errors import DaemonUnreachable
from spotwatchd.wire import http
from spotwatchd.wire.paths import private_runtime

Answer = dict[str, Any]

# The daemon starts a process that loads the store's library and asks the store.
_SECONDS = 60.0


def say(args: argparse.Namespace, do: str, *, save: bool = True) -> Answer:
    """Say it to the daemon; without one, to the store that ``--store`` names.

    Raises DaemonUnreachable, ProblemError, and what the store says.
    """
    body = {"name": args.name, "do": do, "save": save}
    if args.store:
        body["store"] = args.store
    socket = options.socket_of(args)
    try:
        return _post(socket, body)
    except DaemonUnreachable as error:
        if not nobody_there(error):
            raise
        if args.store:
            return _directly(args, do, save=save)
        if Path(socket).parent != private_runtime():
            raise
    # A private daemon leaves when its jobs are over; what it knew of them it kept.
    private.start(socket)
    return _post(socket, body)


def _post(socket: str, body: Answer) -> Answer:
    answer: Answer = http.request(socket, "POST", "/v1/control", body, timeout=_SECONDS)
    return answer


def _directly(args: argparse.Namespace, do: str, *, save: bool) -> Answer:
    with daemon_extra(f"spotwatch {do} --store"):
        from spotwatchd.store import control
        from spotwatchd.store.open import open_backend
    backend = open_backend(args.store)
    if os.geteuid() != 0:
        control.check_user(backend, args.name)
    if do == "stop":
        control.stop(backend, args.name, save=save)
        return {"name": args.name, "state": "stopped", "note": ""}
    if do == "start":
        control.start(backend, args.name)
        return {"name": args.name, "state": "elsewhere", "note": ""}
    count = control.remove(backend, args.name)["objects"]
    return {"name": args.name, "state": "removed", "note": "", "objects": count}


def show(args: argparse.Namespace, answer: Answer, line: str) -> int:
    """Print the answer. Returns the exit status."""
    if args.json:
        print(json.dumps(answer))
        return options.OK
    print(f"{args.name}  {line}")
    if answer.get("note"):
        print(f"{args.name}  {answer['note']}")
    return options.OK
