"""A job's spec as somebody changed it on another machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spotwatchd.core.identity import differences, revision_of
from spotwatchd.engine.identity import spec_of
from spotwatchd.engine.records import Record
from spotwatchd.errors import JobError


def adopt(record: Record, spec: dict[str, Any], *, follow: bool) -> None:
    """Take over what the store says is to be run; directories here stay.

    Raises JobError when this machine may not run what the store says as the job's user.
    """
    kept = record.kept
    kept.revision, kept.replaces = revision_of(spec), ""
    kept.run_id = str(spec.get("run_id") or kept.run_id)
    changes = differences(spec_of(kept.body, str(spec.get("user"))), spec)
    if not changes:
        return
    if not follow:
        raise JobError(
            f"the job {record.name} was changed on another machine: {'; '.join(changes)}",
            where="allowed_users",
            remedy="run it here with the new command once, or name its user in allowed_users",
        )
    env = {str(key): str(value) for key, value in (spec.get("env") or {}).items()}
    kept.body = replace(
        kept.body,
        argv=[str(word) for word in spec.get("argv") or []] or None,
        cwd=spec.get("cwd") or kept.body.cwd,
        env=env,
        checkpoint_glob=spec.get("checkpoint_glob"),
        signal=spec.get("signal"),
        interval=spec.get("interval"),
    )
