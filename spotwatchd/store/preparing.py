"""Before an attempt starts: its code put in place, everything it needs looked for.

In this order, so that ``prepare`` may make what is looked for last: data paths, secrets,
code, working directory, the prepare command, the interpreter.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotwatchd.core.code import Code, Moved, parse_code
from spotwatchd.store import checks
from spotwatchd.store.base import Backend
from spotwatchd.store.code import provide
from spotwatchd.store.job_file import JobFile
from spotwatchd.store.lacking import Lacking
from spotwatchd.store.patience import Patience


@dataclass(frozen=True)
class Prepared:
    """How the program is started on this machine.

    Attributes:
        argv, cwd: with places in the code replaced by where the code is here.
        env: variables that differ from those that were given.
    """

    argv: list[str]
    cwd: str
    env: dict[str, str]


def prepare(
    job: JobFile, backend: Backend, env: Mapping[str, str], limits: Patience, *, here: bool
) -> Prepared:
    """Make the machine ready for one attempt.

    Args:
        job: with its spec.
        backend: the store.
        env: of the program, without secrets.
        limits: cancels it.
        here: the job was registered on this machine, so it runs in its own directory while
            that exists, and not in a copy of the code.

    Raises:
        Lacking: something is missing; with the remedy.
        Damaged, StoreDenied, Cancelled, OSError.
    """
    fields = job.spec.fields
    checks.check_data(fields.get("data") or [])
    hidden = checks.secrets(fields.get("env_file"), fields.get("env_command"), env)
    code = parse_code(fields.get("code"), f"{job.name}/spec.json: code")
    ready = _placed(job, backend, code, env, limits, here=here)
    checks.check_directory(ready.cwd, has_code=code is not None)
    full = {**env, **ready.env, **hidden}
    if fields.get("prepare"):
        _run(job, ready.cwd, full, limits)
    checks.check_program(ready.argv, ready.cwd, {**env, **ready.env}, fields.get("python") or {})
    return ready


def _placed(  # noqa: PLR0913 - what a place depends on
    job: JobFile,
    backend: Backend,
    code: Code | None,
    env: Mapping[str, str],
    limits: Patience,
    *,
    here: bool,
) -> Prepared:
    fields: dict[str, Any] = job.spec.fields
    argv, cwd = [str(word) for word in fields.get("argv") or []], str(fields.get("cwd") or "/")
    if code is None or (here and Path(cwd).is_dir()):
        return Prepared(argv, cwd, {})
    root = provide(backend, job.name, code, job.runtime_dir / "code", limits)
    moved = Moved(code.root, str(root))
    if moved.path(cwd) != cwd:  # neither git nor a bundle keeps an empty directory
        Path(moved.path(cwd)).mkdir(parents=True, exist_ok=True)
    changed = {"PWD": moved.path(cwd)} if "PWD" in env else {}
    if "PYTHONPATH" in env:
        changed["PYTHONPATH"] = moved.paths(env["PYTHONPATH"])
    return Prepared(
        [_program(argv[0], moved), *map(moved.path, argv[1:])], moved.path(cwd), changed
    )


def _program(text: str, moved: Moved) -> str:
    """An environment beside the code is seldom part of it: it stays where it was."""
    return moved.path(text) if Path(moved.path(text)).exists() else text


def _run(job: JobFile, cwd: str, env: Mapping[str, str], limits: Patience) -> None:
    """Run the prepare command; what it prints may hold secrets and stays in its log."""
    command, log = str(job.spec.fields["prepare"]), job.runtime_dir / "prepare.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(log, flags, 0o600), "wb") as output:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise Lacking(f"the prepare command cannot be started: {error.strerror}") from error
        status = _wait(process, job.prepare_seconds, limits)
    if status != 0:
        late = f"has not ended after {job.prepare_seconds:g} s"
        why = late if status is None else f"ended with status {status}"
        raise Lacking(
            f"the prepare command {why}", where=str(log), remedy=f"see its output in {log}"
        )


def _wait(process: subprocess.Popen[bytes], seconds: float, limits: Patience) -> int | None:
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            try:
                return process.wait(0.1)
            except subprocess.TimeoutExpired:
                limits.check()
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
