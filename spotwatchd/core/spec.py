"""spec.json: what to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spotwatchd.core.fields import DEEPEST, Fields, dump, is_shallow, load
from spotwatchd.core.ids import is_job_name
from spotwatchd.errors import Damaged


@dataclass(frozen=True)
class Spec:
    """spec.json: what to run. ``fields`` holds it all, checked only where it is used."""

    name: str
    run_id: str
    fields: dict[str, Any]

    def encode(self) -> bytes:
        """As stored."""
        return dump({**self.fields, "name": self.name, "run_id": self.run_id})

    @property
    def runnable(self) -> bool:
        """Whether a daemon may start it (argv is not null)."""
        return self.fields.get("argv") is not None


def make_spec(document: dict[str, Any], where: str) -> Spec:
    """Check a spec that is not encoded yet. Raises Damaged."""
    fields = Fields(document, where)
    name = fields.text("name")
    if not is_job_name(name):
        raise fields.bad("name", "1 to 64 of a-z A-Z 0-9 . _ -")
    argv = fields.raw.get("argv")
    if argv is not None and not (
        isinstance(argv, list) and argv and all(isinstance(part, str) for part in argv)
    ):
        raise fields.bad("argv", "a list of strings or null")
    if not is_shallow(document):
        raise Damaged(f"nested deeper than {DEEPEST} levels", where=where)
    known = {key: value for key, value in document.items() if key != "version"}
    return Spec(name, fields.text("run_id"), known)


def parse_spec(body: bytes, job: str, where: str) -> Spec:
    """Read spec.json. Raises Damaged, StoreDenied."""
    spec = make_spec(load(body, where).raw, where)
    if spec.name != job:
        raise Damaged(f"name: expected {job!r}, found {spec.name!r}", where=f"{where}: name")
    return spec
