"""``spotwatch run --external``: another scheduler starts the job, here and on the next machine.

The program runs below this command, in what the scheduler gave to it, not below the daemon.
The daemon knows this process as the job's keeper: while it lives the job runs. Standard
library only, Python 3.10 too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import spotwatchd
from spotwatchd.cli.follow import exit_status, is_over
from spotwatchd.cli.options import REFUSED, SAVED
from spotwatchd.cli.voice import Voice
from spotwatchd.errors import DaemonUnreachable, JobError
from spotwatchd.wire import http
from spotwatchd.wire.attempt import ask_signal, environment

Document = dict[str, Any]

# What the scheduler's own script does better: it knows the machine.
_NOT_OURS = ("prepare", "data", "detach")
# A scheduler that ends a job waits 30 s (Kubernetes, KillWait of Slurm, Batch's SIGTERM).
_SAVE_SECONDS = 25.0
_GRACE = 4.0
# The last checkpoint of a program that has ended: a large one takes its time, nothing hurries.
_COMMIT_SECONDS = 600.0
_TURN = 0.1
_LOOK = 2.0
_AWAY = 60.0
_SILENCE = 15.0
# jobs/shim.py: pass on the signal that asks the program to save.
_ASK = signal.SIGRTMIN + 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def add_option(parser: argparse.ArgumentParser) -> None:
    """--external."""
    parser.add_argument(
        "--external",
        action="store_true",
        help="Slurm, AWS Batch or Kubernetes starts this command, here and on the next machine: "
        "no daemon ever does; exits 75 when it is to be started again",
    )


def check(args: argparse.Namespace) -> None:
    """Raise JobError for options that the scheduler's script is there for."""
    named = [f"--{name}" for name in _NOT_OURS if getattr(args, name)]
    if args.code != "none":
        named.append("--code")
    if named:
        raise JobError(
            f"{', '.join(named)} and --external do not go together",
            where="the command line",
            remedy="whoever starts the job brings what it needs: do it in the scheduler's script",
        )


def fields() -> Document:
    """What the job's body says besides."""
    line = f"cd {shlex.quote(os.getcwd())} && {shlex.join(['spotwatch', *sys.argv[1:]])}"  # noqa: PTH109 - a str
    fits = line.isprintable() and len(line) < 4096
    return {"resume": "external", "resume_command": line if fits else None}


class Keeper:
    """Runs the program of one job, for as long as the daemon holds the lease for it."""

    def __init__(self, socket: str, body: Document, *, as_json: bool) -> None:
        """For the job that was registered as ``body`` at the daemon of ``socket``."""
        self._socket = socket
        self._body = body
        self._name = str(body["name"])
        self._voice = Voice(self._name, as_json=as_json)
        self._ask_signal = ask_signal(body.get("signal"), body.get("checkpoint_glob"))
        self._signals = 0
        self._asked = ""  # cause of the daemon's ask to leave
        self._over = threading.Event()
        self._shim: subprocess.Popen[bytes] | None = None
        self._leaving_since: float | None = None
        self._saved_before = self._committed = -1
        self._looked = 0.0

    def run(self) -> int:
        """Wait for the lease and the checkpoint, run the program, return the exit status.

        Raises ProblemError when the job runs here already, DaemonUnreachable.
        """
        facts = self._wait_for_turn()
        if "exit" in facts:
            return int(facts["exit"])
        old = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        home = Path(tempfile.mkdtemp(prefix="spotwatch-"))
        try:
            return self._keep(facts, home / "attempt")
        finally:
            self._over.set()
            shutil.rmtree(home, ignore_errors=True)
            for number, handler in old.items():
                signal.signal(number, handler)

    # -- before

    def _wait_for_turn(self) -> Document:
        said, lost = "", time.monotonic()
        while True:
            try:
                facts = self._join()
                if facts["state"] == "ready":
                    return facts
                job = self._job()
                lost = time.monotonic()
            except (DaemonUnreachable, http.ProblemError) as error:
                # 409: what the last attempt left here is being ended.
                if getattr(error, "status", 409) != 409 or time.monotonic() - lost > _AWAY:
                    raise
                time.sleep(_TURN)
                continue
            if is_over(job):
                self._voice.say(f"already {job.get('outcome')}")
                return {"exit": exit_status(job)}
            reason = str(job.get("reason") or "waits for its lease and its checkpoint")
            if reason != said:
                said = reason
                self._voice.say(reason)
            time.sleep(_TURN)

    def _join(self) -> Document:
        answer: Document = http.request(
            self._socket, "POST", f"/v1/jobs/{self._name}/processes", {"keeper": True}
        )
        return answer

    def _job(self) -> Document:
        found: Document = http.request(self._socket, "GET", f"/v1/jobs/{self._name}")
        return found

    # -- while it runs

    def _keep(self, facts: Document, directory: Path) -> int:
        directory.mkdir()
        resumed = facts.get("resume_step")
        self._voice.say(f"attempt {facts['attempt']}, starts at step {resumed or 0:,}")
        self._shim = subprocess.Popen(
            self._command(directory),
            env=self._environment(facts),
            start_new_session=True,  # Ctrl-C comes to us, and the program saves first
        )
        while self._shim.poll() is None:
            if self._signals and self._leaving_since is None:
                self._leave()
            if self._may_end():
                self._shim.send_signal(signal.SIGTERM)
            self._stay_known()
            time.sleep(_TURN)
        return self._end(_recorded(directory / "exit.json"))

    def _command(self, directory: Path) -> list[str]:
        shim = Path(spotwatchd.__file__).parent / "jobs" / "shim.py"
        words = [sys.executable, "-I", "-S", str(shim), "--directory", str(directory)]
        words += ["--grace", str(_GRACE)]
        # Where the output goes is the scheduler's file: nothing is cut out of it.
        words += ["--keep-output", str(1 << 62)]
        if self._ask_signal is not None:
            words += ["--ask-signal", str(self._ask_signal)]
        for option in ("env_file", "env_command"):
            if self._body.get(option):
                words += [f"--{option.replace('_', '-')}", self._body[option]]
        return [*words, "--", *self._body["argv"]]

    def _environment(self, facts: Document) -> dict[str, str]:
        told = environment(
            socket=self._socket,
            job=self._name,
            checkpoint_dir=str(facts["checkpoint_dir"]),
            attempt=facts["attempt"],
            step=facts.get("resume_step"),
            resume_from=facts.get("resume_from"),
            cause=str(facts["cause"]),
            run_id=str(facts["run_id"]),
        )
        # By it the daemon finds what is left should this process be killed.
        told["SPOTWATCH_ATTEMPT_DIR"] = str(facts["mark"])
        return {**os.environ, **self._body["env"], **told}

    def _leave(self) -> None:
        """The scheduler, or the daemon, wants the program to end: it saves first if it may run."""
        self._leaving_since = time.monotonic()
        try:
            job = self._job()
            if job.get("life") != "running":
                self._leaving_since -= _SAVE_SECONDS  # there is nothing to wait for
                return
            before = job.get("sealed_step")
            self._saved_before = -1 if before is None else int(before)
            http.request(self._socket, "POST", f"/v1/jobs/{self._name}/ask")
            self._voice.say("told to end: asked to save")
        except (DaemonUnreachable, http.ProblemError) as error:
            self._voice.say(f"told to end, and its save cannot be watched: {error}")
        self._pass_on()

    def _pass_on(self) -> None:
        if self._ask_signal is not None and self._shim is not None:
            self._shim.send_signal(_ASK)

    def _may_end(self) -> bool:
        """Whether a program that was told to leave is ended from outside."""
        if self._leaving_since is None:
            return False
        late = time.monotonic() - self._leaving_since > _SAVE_SECONDS
        return late or self._signals > 1 or self._committed > self._saved_before

    def _stay_known(self) -> None:
        """A daemon that was started again does not know us."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            with suppress(DaemonUnreachable, http.ProblemError):
                self._join()

    # -- after

    def _end(self, status: int | None) -> int:
        left = self._asked or self._leaving_since is not None
        if status == 0 and not left:
            self._tell_finished()
        if left or status == 0:
            self._wait_for_commit()
        code = REFUSED if status is None else status if status >= 0 else 128 - status
        if self._asked == "stop":
            return code if code not in (0, SAVED) else REFUSED
        return SAVED if left else code

    def _tell_finished(self) -> None:
        end = time.monotonic() + _AWAY
        while time.monotonic() < end:
            with suppress(DaemonUnreachable):
                http.request(self._socket, "POST", f"/v1/jobs/{self._name}/finish", {})
                return
            time.sleep(_TURN)
        self._voice.say("finished, and spotwatchd could not be told: it does not answer")

    def _wait_for_commit(self) -> None:
        """Whoever started us may take the machine away once we have ended."""
        end, said = time.monotonic() + _COMMIT_SECONDS, False
        with suppress(DaemonUnreachable, http.ProblemError):
            while time.monotonic() < end and self._signals < 2:
                job = self._job()
                sealed, committed = job.get("sealed_step"), job.get("committed_step")
                if sealed is None or (committed is not None and committed >= sealed):
                    return
                if not said:
                    said = True
                    self._voice.say(f"waits until step {sealed:,} is in the store")
                time.sleep(_TURN)

    # -- what the daemon says

    def _listen(self) -> None:
        target = f"/v1/jobs/{self._name}/events"
        while not self._over.is_set():
            with suppress(DaemonUnreachable, http.ProblemError, ValueError):
                for event in http.stream(self._socket, target, idle_timeout=_SILENCE):
                    self._hear(event)
            self._over.wait(_TURN)

    def _hear(self, event: Document) -> None:
        if event.get("event") == "ask" and event.get("cause") in ("notice", "stop"):
            self._asked = str(event["cause"])
            self._pass_on()
        elif event.get("event") == "committed" and isinstance(event.get("step"), int):
            self._committed = max(self._committed, event["step"])
        self._voice.show(event)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1


def _recorded(path: Path) -> int | None:
    try:
        status = json.loads(path.read_bytes())["status"]
    except (OSError, ValueError, KeyError):
        return None
    return status if isinstance(status, int) else None
