"""The jobs in a store, for those who do not own them.

A daemon looks for work here, a person for a checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spotwatchd.core.fence import rebuild
from spotwatchd.core.fields import VERSION
from spotwatchd.core.head import Head
from spotwatchd.core.identity import agreed
from spotwatchd.core.ids import CheckpointId, is_job_name
from spotwatchd.core.retention import candidates
from spotwatchd.core.spec import Spec, parse_spec
from spotwatchd.errors import Conflict, Damaged, JobError, StoreError
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import read_head
from spotwatchd.store.layout import head_key, lease_key, spec_key
from spotwatchd.store.listing import complete_manifests
from spotwatchd.store.partial import give_up
from spotwatchd.store.patience import FIRST_PAUSE
from spotwatchd.store.restore import RestoredCheckpoint, restore, until_sure
from spotwatchd.store.swap import new_nonce

_ROUNDS = 5


@dataclass(frozen=True)
class StoredJob:
    """A job in a store.

    Attributes:
        spec: spec.json as it is there (docs/architecture.md); name and run_id were checked.
        state: as in head.json; "new" without a head, "unreadable" when it is damaged.
        halted: why it is not to be run: finished, crashed or stopped; "" when it is.
    """

    name: str
    spec: dict[str, Any]
    state: str
    halted: str = ""


def list_unfinished(
    backend: Backend, problem: Callable[[str, StoreError], None] = lambda _name, _error: None
) -> list[StoredJob]:
    """The jobs that have not ended, by name. One that cannot be read goes to ``problem``.

    Raises StoreUnavailable, StoreDenied when the store cannot be listed.
    """
    found = []
    for name in backend.children(""):
        if not is_job_name(name):
            continue
        try:
            job = _stored_job(backend, name)
        except StoreError as error:
            problem(name, error)
            continue
        if job is not None and not job.halted:
            found.append(job)
    return found


def _stored_job(backend: Backend, name: str) -> StoredJob | None:
    spec = read_spec(backend, name)
    if spec is None:
        return None
    document = {**spec.fields, "version": VERSION}
    try:
        head = read_head(backend, name)
    except Damaged:
        return StoredJob(name, document, "unreadable")
    if head is None:
        return StoredJob(name, document, "new")
    return StoredJob(name, document, head.state, head.halted)


def read_spec(backend: Backend, job: str) -> Spec | None:
    """The job's spec, or None. Raises Damaged, StoreUnavailable, StoreDenied."""
    document = backend.read_document(spec_key(job))
    if document is None:
        return None
    return parse_spec(document.body, job, f"{backend.url}/{spec_key(job)}")


def write_spec(backend: Backend, spec: Spec) -> Spec:
    """Make the store's spec say what ``spec`` says; returns what is there now.

    The birth stays that of the store: a job that goes on elsewhere is the same run.
    Raises Conflict, StoreUnavailable, StoreDenied.
    """
    for _ in range(_ROUNDS):
        document = backend.read_document(spec_key(spec.name))
        stored = _readable(backend, spec.name) if document else None
        wanted = _merged(spec, stored)
        if stored is not None and stored == wanted:
            return stored
        try:
            expected = document.version if document else None
            backend.write_document(spec_key(spec.name), wanted.encode(), expected)
        except Conflict:
            continue
        return wanted
    raise Conflict("cannot write the spec: it changes too fast", where=spec_key(spec.name))


def announce(backend: Backend, spec: Spec) -> None:
    """Put a job that never ran into the store: its spec, and a head that people can stop.

    Whatever is there is left alone. Raises Damaged, StoreUnavailable, StoreDenied.
    """
    name = spec.name
    if any(backend.read_document(key(name)) for key in (head_key, lease_key)):
        return  # it was taken before, or is being removed
    with contextlib.suppress(Conflict):
        body = agreed(spec, None, follow=False).encode()
        backend.write_document(spec_key(name), body, None)
    found = read_spec(backend, name) or spec
    head = Head(name, found.run_id, generation=0, state="interrupted", written_by=new_nonce())
    with contextlib.suppress(Conflict):
        backend.write_document(head_key(name), head.encode(), None)


def _readable(backend: Backend, job: str) -> Spec | None:
    try:
        return read_spec(backend, job)
    except Damaged:
        return None


def _merged(spec: Spec, stored: Spec | None) -> Spec:
    fields = {**spec.fields, "name": spec.name, "run_id": spec.run_id}
    if stored is None:
        return replace(spec, fields=fields)
    if "created_at" in stored.fields and stored.run_id == spec.run_id:
        fields["created_at"] = stored.fields["created_at"]
    return Spec(spec.name, spec.run_id, {**stored.fields, **fields})


def restore_to(
    backend: Backend, job: str, directory: Path, step: int | None = None
) -> RestoredCheckpoint:
    """Bring a committed checkpoint into ``directory``, verified; head is not changed.

    Args:
        backend: the store.
        job: its name there.
        directory: created if need be; the checkpoint gets its usual name in it.
        step: which one (the newest commit of that step); None: the newest that verifies.

    Raises:
        JobError: there is no such checkpoint.
        Damaged: none of them verifies (of several: why the oldest does not).
    """
    head = _head_or_rebuilt(backend, job)
    wanted = [entry for entry in candidates(head) if step is None or entry.id.step == step]
    if not wanted:
        steps = ", ".join(f"{entry.id.step:,}" for entry in head.checkpoints) or "none"
        raise JobError(
            f"no checkpoint of {job}" + (f" at step {step:,}" if step is not None else ""),
            where=backend.url,
            remedy=f"committed steps: {steps}",
        )
    for entry in wanted[:-1]:
        with contextlib.suppress(Damaged):
            return _restore_surely(backend, job, entry.id, directory)
    return _restore_surely(backend, job, wanted[-1].id, directory)


def _restore_surely(
    backend: Backend, job: str, checkpoint: CheckpointId, directory: Path
) -> RestoredCheckpoint:
    try:
        return until_sure(
            lambda: restore(backend, job, checkpoint, directory), lambda: time.sleep(FIRST_PAUSE)
        )
    except Damaged:
        give_up(directory, checkpoint)
        raise


def _head_or_rebuilt(backend: Backend, job: str) -> Head:
    try:
        head = read_head(backend, job)
    except Damaged:
        head = None
    return head or rebuild(job, "", complete_manifests(backend, job))
