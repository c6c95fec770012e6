"""``spotwatch status``: one line per job, one for the watch, one for the store."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from spotwatchd.cli import options, text, words

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers

Document = dict[str, Any]
_HEADER = ("JOB", "STATE", "STEP", "COMMITTED", "NEXT SAVE", "PROCESSES", "GPUS", "WHY")


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("status", help="what is watched, and how the jobs are")
    parser.add_argument("name", metavar="NAME", nargs="?", help="one job only")
    options.common(parser)
    parser.set_defaults(func=_status)


def _status(args: argparse.Namespace) -> int:
    if args.name:
        document = options.ask(args, "GET", f"/v1/jobs/{args.name}")
        jobs = [document]
    else:
        document = options.ask(args, "GET", "/v1/status")
        jobs = document["jobs"]
    if args.json:
        print(json.dumps(document))
        return options.OK
    if not args.name:
        rows, alarms = _house(document)
        text.columns(("", "", ""), rows, alarms)
    if jobs:
        print(end="" if args.name else "\n")
        alarms = frozenset(i for i, each in enumerate(jobs) if _needs_a_person(each))
        text.columns(_HEADER, [job_row(each) for each in jobs], alarms)
    return options.OK


def _needs_a_person(job: Document) -> bool:
    return job.get("outcome") == "crashed" or job.get("state") == "blocked"


def _house(document: Document) -> tuple[list[tuple[str, ...]], frozenset[int]]:
    rows: list[tuple[str, ...]] = [_daemon(document["daemon"])]
    alarms: set[int] = set()
    for watch in document.get("watch") or []:
        if watch.get("stale"):
            alarms.add(len(rows))
        rows.append(_watch(watch))
    if not document.get("watch"):
        rows.append(("watch", "off", "no notice will be seen"))
    store = document.get("store")
    if store and store.get("last_error"):
        alarms.add(len(rows))
    rows.append(_store(store))
    if drain := document.get("drain"):
        alarms.add(len(rows))
        rows.append(_interruption(drain))
    if not document.get("jobs"):
        rows.append(("jobs", "none", "start one: spotwatch run --name NAME ..."))
    return rows, frozenset(alarms)


def _daemon(daemon: Document) -> tuple[str, str, str]:
    up = words.span(float(daemon.get("uptime_seconds") or 0))
    return "daemon", str(daemon.get("version")), f"pid {daemon.get('pid')}, up {up}"


def _watch(watch: Document) -> tuple[str, str, str]:
    age = watch.get("last_success_age", watch.get("last_answer_seconds"))
    said = "never answered" if age is None else f"answered {words.ago(float(age))}"
    if watch.get("state") not in ("watching", "absent") and watch.get("last_error"):
        said += f"; {watch['last_error']}"
    return "watch", f"{watch.get('source')}: {watch.get('state')}", said


def _store(store: Document | None) -> tuple[str, str, str]:
    if store is None:
        return "store", "none", "each job names its own (spotwatch run --store URL)"
    return "store", str(store["url"]), str(store.get("last_error") or "no error")


def _interruption(drain: Document) -> tuple[str, str, str]:
    left = drain.get("seconds_left")
    said = "" if left is None else f"{words.span(max(0.0, float(left)))} left"
    return "interruption", f"{drain.get('action')} ({drain.get('source')})", said


def job_row(job: Document) -> tuple[str, ...]:
    """The cells of one job."""
    return (
        str(job["name"]),
        str(job["state"]),
        words.step(job.get("step")),
        _committed(job),
        _next(job.get("next_save_seconds")),
        str(job.get("processes", 0)),
        ",".join(map(str, job.get("gpus") or ())) or "-",
        "; ".join(str(job[key]) for key in ("reason", "remedy") if job.get(key)),
    )


def _committed(job: Document) -> str:
    age = words.seconds_since(job.get("committed_at") or "")
    when = "" if age is None else f" ({words.ago(age)})"
    return words.step(job.get("committed_step")) + when


def _next(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"in {words.span(seconds)}" if seconds > 0 else "now"
