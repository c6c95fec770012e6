"""What a job's replicator is told when it is started (docs/architecture.md)."""

from __future__ import annotations

from typing import Any

from spotwatchd.engine.adopting import may_follow
from spotwatchd.engine.house import House
from spotwatchd.engine.identity import needs_of
from spotwatchd.engine.records import Record
from spotwatchd.jobs.spawn import Account


def replicator_document(house: House, record: Record, who: Account) -> dict[str, Any]:
    """The document; the replicator runs as ``who``."""
    config, body, kept = house.config, record.kept.body, record.kept
    document: dict[str, Any] = {
        "name": record.name,
        "uid": kept.uid,
        "gid": who.gid,
        "checkpoint_dir": body.checkpoint_dir,
        "checkpoint_glob": body.checkpoint_glob,
        "store": kept.store,
        "socket": str(config.socket),
        "runtime_dir": str(record.directory),
        "machine": house.machine,
        "boot_id": house.boot_id,
        "lease_seconds": config.lease.seconds,
        "keep_last": config.checkpoint.keep_last,
        "keep_every": config.checkpoint.keep_every,
        "grace_seconds": config.checkpoint.grace_seconds,
        "upload_limit": config.checkpoint.upload_limit,
        "replaces": kept.replaces,
        "follow_spec": may_follow(kept, config),
        "spec": {
            "version": 1,
            "name": record.name,
            "run_id": kept.run_id,
            "argv": body.argv,
            "cwd": body.cwd,
            "user": kept.origin or who.name,
            "env": body.env,
            "checkpoint_dir": body.checkpoint_dir,
            "checkpoint_glob": body.checkpoint_glob,
            "signal": body.signal,
            "interval": body.interval,
            "resume": body.resume,
            "resume_command": body.resume_command,
            "created_at": kept.created_at,
            "revision": kept.revision,
            **needs_of(body),
        },
    }
    if body.bundle is not None:
        document["bundle"] = body.bundle
    return document
