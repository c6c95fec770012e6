"""The main job, shown: a training is interrupted, saved, and resumed on a new machine."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from spotwatchd.errors import DaemonUnreachable, SpotwatchError
from spotwatchd.rehearsal.machine import Machine, wait_for
from spotwatchd.rehearsal.s3server import LocalS3
from spotwatchd.rehearsal.training import Training, example
from spotwatchd.store.init import init_store
from spotwatchd.wire.http import ProblemError, stream

JOB = "digits"
WINDOW = 20.0  # seconds from the notice to the end of machine A
STEPS = 1200
# The notice comes here: far from the warm-up, far from the end.
NOTICE_AT = 500
LIMIT = 150.0

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Result:
    """What came of it; the fields are a contract (docs/cli-json.md). Times in milliseconds.

    Attributes:
        identical: the interrupted run ended with the weights of the uninterrupted one.
        lost_steps: steps computed twice, counted from the log that the example writes.
        differs: what the two machines do not share: what it is on machine A, and on B.
    """

    identical: bool
    store: str
    steps: int
    weights_sha256: str | None
    control_sha256: str | None
    lost_steps: int
    interrupted_at_step: int
    resumed_at_step: int
    notice_to_asked_ms: float | None
    asked_to_sealed_ms: float | None
    sealed_to_committed_ms: float | None
    seconds_to_spare: float | None
    receipt: dict[str, Any] | None
    differs: dict[str, list[str]]

    @property
    def good(self) -> bool:
        """Nothing was lost."""
        return self.identical and self.lost_steps == 0


@contextlib.contextmanager
def store_for(kind: str, root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A store of its own: its URL and what a daemon's environment needs."""
    if kind == "dir":
        url = f"file://{root / 'store'}"
        (root / "store").mkdir()
        init_store(url)
        yield url, {}
        return
    server = LocalS3(root / "s3")
    server.start()
    try:
        yield "s3://rehearsal/team", server.environment
    finally:
        server.kill()


def _follow(machine: Machine, say: Say) -> None:
    """Repeat what the daemon tells people, until the machine is gone."""

    def listen() -> None:
        try:
            for event in stream(machine.socket, f"/v1/jobs/{JOB}/events", idle_timeout=20):
                if event.get("line"):
                    say(machine.name, str(event["line"]))
        except (DaemonUnreachable, ProblemError, ValueError):
            return

    threading.Thread(target=listen, name=f"follow-{machine.name}", daemon=True).start()


def run(kind: str, say: Say) -> Result:
    """Show it on a store of ``kind`` ("dir" or "s3"). Takes one to two minutes.

    Raises:
        TimeoutError: a phase did not end in time; the message names it.
        SpotwatchError: something the demo needs is missing.
    """
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    try:
        with store_for(kind, root) as (url, environment):
            return _show(kind, root, url, environment, say)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _show(kind: str, root: Path, url: str, environment: dict[str, str], say: Say) -> Result:
    control = Training(root / "control", STEPS)
    say("control", "an uninterrupted run begins, to compare with")
    alone = control.alone()
    home = root / "home-of-a" / "project"
    home.mkdir(parents=True)
    training = Training(root / "work", STEPS, script=Path(shutil.copy(example(), home)))
    training.directory.mkdir()
    first = Machine("machine-A", root / "a", url, env=environment, own_host=True)
    second = _another(first, root / "b", url, environment)
    try:
        announced, traits = _interrupt(first, training, say)
        before = len(training.computed())
        first.destroy()
        shutil.rmtree(home.parent)
        say(first.name, "gone: its processes are killed, its disk and the code are deleted")
        second.boot()
        say(second.name, "boots with an empty disk and no code; nobody helps")
        wait_for(lambda: second.job(JOB), "machine B finds the job in the store", LIMIT)
        _follow(second, say)
        differs = _compared(traits, _traits(second, training))
        say(second.name, f"differs: {_told(differs, second)}")
        wait_for(training.sha256, f"the training finishes\n{second.log()}", LIMIT)
        receipt = _receipt(second)
        alone.wait(LIMIT)
    finally:
        first.power_off()
        second.power_off()
        alone.kill()
        alone.wait()
    subject = Subject(training, control, before, announced, differs)
    return _result(kind, subject, receipt)


def _another(machine: Machine, root: Path, url: str, environment: dict[str, str]) -> Machine:
    """A machine with another user, where whoever rehearses may be somebody else."""
    if machine.user.pw_uid == os.geteuid():
        return Machine("machine-B", root, url, env=environment, own_host=True)
    other = next(user for user in pwd.getpwall() if user.pw_uid not in (0, machine.user.pw_uid))
    users = [f"{machine.user.pw_name}:{other.pw_name}"]
    settings = {"allowed_users": users}
    return Machine("machine-B", root, url, settings=settings, env=environment, user=other)


def _traits(machine: Machine, training: Training) -> dict[str, str]:
    """What the machine is, asked of a process on it, and where the training runs there."""

    def directory() -> str:
        running = machine.processes(training.script.name)
        with contextlib.suppress(IndexError, OSError):  # not there yet, or not any more
            return str(Path(f"/proc/{running[-1]}/cwd").readlink())
        return ""

    return {
        "user": machine.says("pwd.getpwuid(os.getuid()).pw_name"),
        "host": machine.says("os.uname().nodename"),
        "code": wait_for(directory, f"the training starts\n{machine.log()}", LIMIT),
    }


def _compared(one: dict[str, str], other: dict[str, str]) -> dict[str, list[str]]:
    return {name: [one[name], other[name]] for name in one if one[name] != other[name]}


def _told(differs: dict[str, list[str]], machine: Machine) -> str:
    """In one line, with what is the same because an ordinary user rehearses."""
    parts = [f"{name} {now} (was {was})" for name, (was, now) in differs.items()]
    if "user" not in differs:
        parts.append(f"user {machine.user.pw_name} as before (rehearsed as root it is another)")
    if "host" not in differs:
        parts.append("host name as before (the kernel gives an ordinary user none here)")
    return " · ".join(parts)


def _interrupt(machine: Machine, training: Training, say: Say) -> tuple[float, dict[str, str]]:
    """Train on ``machine`` until the notice is dealt with.

    Returns when it was announced, and the machine's traits.
    """
    machine.boot()
    machine.run(JOB, training.argv(), training.script.parent, "--code", "bundle")
    _follow(machine, say)
    traits = _traits(machine, training)
    wait_for(lambda: training.step() >= NOTICE_AT, f"training\n{machine.log()}", LIMIT)
    machine.imds.announce("terminate", WINDOW)
    announced = time.time()
    say("EC2", f"notice: {machine.name} is terminated in {WINDOW:.0f} s")
    wait_for(
        lambda: machine.job(JOB)["state"] == "interrupted" or time.time() > announced + WINDOW,
        "the interruption is settled",
        WINDOW + 10,
    )
    return announced, traits


def _receipt(machine: Machine) -> dict[str, Any] | None:
    found = [each for each in machine.get("/v1/receipts") if each["job"] == JOB]
    return found[0] if found else None


def _marks(receipt: dict[str, Any] | None) -> dict[str, float]:
    return {each["mark"]: each["seconds"] for each in (receipt or {}).get("marks", [])}


def _between(marks: dict[str, float], start: str, end: str) -> float | None:
    if start not in marks or end not in marks:
        return None
    return round((marks[end] - marks[start]) * 1000, 1)


@dataclass(frozen=True)
class Subject:
    """What was interrupted, and when.

    Attributes:
        training, control: the interrupted and the uninterrupted run.
        before: number of steps computed when machine A was gone.
        announced: wall time of the notice in the metadata service.
        differs: see Result.
    """

    training: Training
    control: Training
    before: int
    announced: float
    differs: dict[str, list[str]]


def _result(kind: str, subject: Subject, receipt: dict[str, Any] | None) -> Result:
    training, before = subject.training, subject.before
    weights, control = training.sha256(), subject.control.sha256()
    rows, marks = training.computed(), _marks(receipt)
    return Result(
        identical=weights is not None and weights == control,
        store=kind,
        steps=STEPS,
        weights_sha256=weights,
        control_sha256=control,
        lost_steps=training.computed_twice(),
        interrupted_at_step=rows[before - 1][0],
        resumed_at_step=rows[before][0] if len(rows) > before else 0,
        notice_to_asked_ms=_until_asked(receipt, marks, subject.announced),
        asked_to_sealed_ms=_between(marks, "asked", "sealed"),
        sealed_to_committed_ms=_between(marks, "sealed", "committed"),
        seconds_to_spare=receipt["spare_seconds"] if receipt else None,
        receipt=receipt,
        differs=subject.differs,
    )


def _until_asked(
    receipt: dict[str, Any] | None, marks: dict[str, float], announced: float
) -> float | None:
    """From the moment the metadata service shows the notice, not from when it was seen."""
    if receipt is None or "asked" not in marks:
        return None
    seen = datetime.fromisoformat(receipt["notice"]["seen_at"]).timestamp()
    return round((seen + marks["asked"] - announced) * 1000, 1)


def write_json(result: Result, path: Path) -> None:
    """Write the result. Raises SpotwatchError when the file cannot be written."""
    try:
        path.write_text(json.dumps(asdict(result), indent=2) + "\n")
    except OSError as error:
        raise SpotwatchError(
            f"cannot write the result: {error.strerror}", where=str(path), remedy="name a file"
        ) from error
