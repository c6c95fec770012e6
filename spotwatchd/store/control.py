"""``python -m spotwatchd.store.control WORD URL JOB``: a person's wish, carried to a store.

A process of its own with the rights of whoever wished: the daemon loads no store's library,
and who may write to the store is decided by the store. JSON on stdout; a refusal is JSON on
stderr, with status 1.

    peek    what is there: spec, state, owner
    stop, start, mark    write the wish to stop, run, remove
    remove  do what ``mark`` promised
    log     the end of an attempt's output
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from collections.abc import Callable
from typing import Any

from spotwatchd.core.head import Head
from spotwatchd.core.identity import check_owner
from spotwatchd.core.lease import parse_lease
from spotwatchd.core.wanted import REMOVED, RUNNING, STOPPED
from spotwatchd.errors import Damaged, JobError, SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import read_head
from spotwatchd.store.jobs import read_spec
from spotwatchd.store.layout import lease_key
from spotwatchd.store.open import open_backend
from spotwatchd.store.removal import Removal
from spotwatchd.store.tails import read_log
from spotwatchd.store.wishing import say, wish

Document = dict[str, Any]


def peek(backend: Backend, job: str) -> Document:
    """What the store knows of a job; ``spec`` is null when it knows none."""
    spec, head = read_spec(backend, job), _head(backend, job)
    return {
        "job": job,
        "spec": None if spec is None else {**spec.fields, "version": 1},
        **_state(head),
        "owner": _owner(backend, job),
    }


def _head(backend: Backend, job: str) -> Head | None:
    try:
        return read_head(backend, job)
    except Damaged:
        return None  # whoever takes the job rebuilds it


def _state(head: Head | None) -> Document:
    if head is None:
        return {"state": "new", "halted": "", "wanted": None}
    wanted = None if head.wanted is None else head.wanted.document()
    return {
        "state": head.state,
        "halted": head.halted,
        "wanted": wanted,
        "step": head.checkpoints[-1].id.step if head.checkpoints else None,
    }


def _owner(backend: Backend, job: str) -> str | None:
    """The host that holds the lease, as far as it says."""
    document = backend.read_document(lease_key(job))
    if document is None:
        return None
    try:
        lease = parse_lease(document.body, job, lease_key(job))
    except Damaged:
        return None
    return (lease.owner.host or lease.owner.machine) if lease.held else None


def stop(backend: Backend, job: str, *, save: bool = True) -> Document:
    """Wish that it stops everywhere."""
    return {"job": job, **_state(say(backend, job, wish(STOPPED, save=save)))}


def start(backend: Backend, job: str) -> Document:
    """Wish that it runs again. Returns what ``peek`` returns."""
    head = _head(backend, job)
    if head is not None and head.halted == "finished":
        raise JobError(
            f"{job} is finished",
            where=f"{backend.url}/{job}",
            remedy="spotwatch run --continue ... goes on from its last checkpoint, --new anew",
        )
    say(backend, job, wish(RUNNING))
    return peek(backend, job)


def revive(backend: Backend, job: str) -> Document:
    """Wish that it runs, whatever it ended as."""
    return {"job": job, **_state(say(backend, job, wish(RUNNING)))}


def mark(backend: Backend, job: str) -> Document:
    """Wish that it goes."""
    return {"job": job, **_state(say(backend, job, wish(REMOVED)))}


def remove(backend: Backend, job: str) -> Document:
    """Remove it; returns when it is gone."""
    count = Removal(backend, job, lambda line: print(line, file=sys.stderr, flush=True)).run()
    return {"job": job, "objects": count}


def log(backend: Backend, job: str, attempt: int | None) -> Document:
    """The end of an attempt's output, as the store has it."""
    number, machine, body = read_log(backend, job, attempt)
    text = body.decode("utf-8", "replace")
    return {"job": job, "attempt": number, "machine": machine, "text": text}


def check_user(backend: Backend, job: str, user: str | None = None) -> None:
    """Refuse when the job belongs to another user (None: than the one of this process)."""
    spec = read_spec(backend, job)
    mine = user or pwd.getpwuid(os.geteuid()).pw_name
    check_owner(job, spec.fields.get("user") if spec else None, mine)


def main(arguments: list[str] | None = None) -> int:
    """The process. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="control")
    parser.add_argument(
        "word", choices=("peek", "stop", "start", "revive", "mark", "remove", "log")
    )
    parser.add_argument("store")
    parser.add_argument("job")
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument("--attempt", type=int)
    parser.add_argument("--user", help="refuse when the job is somebody else's")
    args = parser.parse_args(arguments)
    doing: dict[str, Callable[[Backend], Document]] = {
        "peek": lambda backend: peek(backend, args.job),
        "stop": lambda backend: stop(backend, args.job, save=not args.no_save),
        "start": lambda backend: start(backend, args.job),
        "revive": lambda backend: revive(backend, args.job),
        "mark": lambda backend: mark(backend, args.job),
        "remove": lambda backend: remove(backend, args.job),
        "log": lambda backend: log(backend, args.job, args.attempt),
    }
    try:
        backend = open_backend(args.store)
        if args.user is not None:
            check_user(backend, args.job, args.user)
        print(json.dumps(doing[args.word](backend)))
    except SpotwatchError as error:
        refusal = {"what": error.what, "where": error.where, "remedy": error.remedy}
        print(json.dumps({**refusal, "kind": type(error).__name__}), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
