"""The document that a replicator is started with: ``--job FILE``."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.core.fields import Fields
from spotwatchd.core.ids import is_job_name
from spotwatchd.core.lease import LONGEST_LEASE, Owner, Terms
from spotwatchd.core.retention import Retention
from spotwatchd.core.spec import Spec, make_spec
from spotwatchd.errors import ConfigError, Damaged

# A file that has not changed for this long is taken for complete (job without the client).
SETTLE_SECONDS = 5.0
# Installing a large environment over a slow network; more is a hang.
PREPARE_SECONDS = 3600.0


@dataclass(frozen=True)
class JobFile:
    """What one replicator must know. Times in seconds.

    Attributes:
        upload_limit: bytes a second at most while no interruption is near; None: no limit.
        bundle: where the job's code lies on the machine that made it, until it is in the store.
        prepare_seconds: what the prepare command may take.
    """

    name: str
    checkpoint_dir: Path
    checkpoint_glob: str | None
    store: str
    socket: str
    runtime_dir: Path
    owner: Owner
    spec: Spec
    terms: Terms
    retention: Retention
    grace: float
    settle: float = SETTLE_SECONDS
    stop_on_lease_expiry: bool = False
    upload_limit: float | None = None
    replaces: str = ""  # the run that this one takes the place of
    follow_spec: bool = True  # a newer spec in the store is run instead of this one
    bundle: Path | None = None
    prepare_seconds: float = PREPARE_SECONDS


def read_job_file(path: Path) -> JobFile:
    """Read and check it. Raises ConfigError."""
    try:
        return _parse(Fields(json.loads(path.read_bytes()), str(path)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the job: {error}", where=str(path)) from error
    except Damaged as error:
        raise ConfigError(error.what, where=error.where) from error


def _parse(fields: Fields) -> JobFile:
    name = fields.text("name")
    if not is_job_name(name):
        raise fields.bad("name", "1 to 64 of a-z A-Z 0-9 . _ -")
    spec = make_spec({**fields.child("spec").raw, "name": name}, f"{fields.where}: spec")
    return JobFile(
        name=name,
        checkpoint_dir=_absolute(fields, "checkpoint_dir"),
        checkpoint_glob=fields.text("checkpoint_glob") if _has(fields, "checkpoint_glob") else None,
        store=fields.text("store"),
        socket=fields.text("socket"),
        runtime_dir=_absolute(fields, "runtime_dir"),
        owner=Owner(
            fields.text("machine"),
            fields.text("boot_id"),
            fields.text("host", socket.gethostname()),
        ),
        spec=spec,
        terms=_terms(fields),
        retention=Retention(fields.number("keep_last", 3), fields.number("keep_every", 0)),
        grace=float(fields.raw.get("grace_seconds", 60.0)),
        settle=float(fields.raw.get("settle_seconds", SETTLE_SECONDS)),
        stop_on_lease_expiry=bool(fields.raw.get("stop_on_lease_expiry", False)),
        upload_limit=float(fields.number("upload_limit")) if _has(fields, "upload_limit") else None,
        replaces=fields.text("replaces", ""),
        follow_spec=bool(fields.raw.get("follow_spec", True)),
        bundle=_absolute(fields, "bundle") if _has(fields, "bundle") else None,
        prepare_seconds=float(fields.raw.get("prepare_seconds", PREPARE_SECONDS)),
    )


def _has(fields: Fields, name: str) -> bool:
    return fields.raw.get(name) is not None


def _absolute(fields: Fields, name: str) -> Path:
    path = Path(fields.text(name))
    if not path.is_absolute():
        raise fields.bad(name, "an absolute path")
    return path


def _terms(fields: Fields) -> Terms:
    seconds = fields.seconds("lease_seconds", most=LONGEST_LEASE)
    margin = fields.seconds("lease_margin", most=seconds) if _has(fields, "lease_margin") else None
    return Terms.of(seconds, margin)
