"""Who starts a job, as its body says."""

from __future__ import annotations

import pytest

from spotwatchd.control.bodies import JobBody
from spotwatchd.engine.text import to_go_on

STORE = "s3://acme/team"


@pytest.mark.parametrize(
    ("argv", "resume", "managed"),
    [(["/bin/true"], None, True), (["/bin/true"], "external", False), (None, None, False)],
)
def test_who_starts_it(argv: list[str] | None, resume: str | None, managed: object) -> None:
    """A daemon starts what has a command and no scheduler of its own."""
    assert JobBody("job", "/ckpt", argv, resume=resume).managed is managed


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (JobBody("job", "/ckpt", resume_command="cd /x && python t.py"), "to go on: cd /x && "),
        (JobBody("job", "/ckpt"), f"spotwatch restore job --store {STORE} --to DIR"),
        (JobBody("job", "/ckpt", ["/bin/true"], resume="external"), "its scheduler starts it"),
    ],
)
def test_how_a_person_goes_on(body: JobBody, words: str) -> None:
    """The line to type, else where the checkpoint is to be had, else who is to do it."""
    assert words in to_go_on(body, STORE)
