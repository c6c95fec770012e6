"""Names that become parts of keys: jobs and checkpoints."""

from __future__ import annotations

import re
from typing import NamedTuple

from spotwatchd.core.fields import Fields

_ID = re.compile(r"(\d{8,18})-(\d{6,18})-(\d{12,18})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def is_job_name(name: str) -> bool:
    """Whether ``name`` can be a job's: it becomes a part of keys and of file names."""
    return _NAME.fullmatch(name) is not None


class CheckpointId(NamedTuple):
    """GEN-SEQ-STEP: unique over all attempts, and ordered as they happened."""

    generation: int
    sequence: int
    step: int

    def __str__(self) -> str:
        return f"{self.generation:08d}-{self.sequence:06d}-{self.step:012d}"

    @classmethod
    def find(cls, text: str) -> CheckpointId | None:
        """The id that ``text`` spells, or None."""
        match = _ID.fullmatch(text)
        found = cls(*(int(part) for part in match.groups())) if match else None
        return found if found is not None and str(found) == text else None


def read_id(fields: Fields) -> CheckpointId:
    found = CheckpointId.find(fields.text("id"))
    if found is None:
        raise fields.bad("id", "GENERATION-SEQUENCE-STEP")
    if fields.number("step") != found.step:
        raise fields.bad("step", f"{found.step}, as in id")
    return found


def check_job(fields: Fields, job: str) -> None:
    if fields.text("job") != job:
        raise fields.bad("job", repr(job))
