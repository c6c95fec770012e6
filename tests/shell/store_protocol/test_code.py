"""The code of a job goes up with the spec that names it, and only with that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spotwatchd.store.layout import code_key
from tests.shell.code.archives import archive, described, entry
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.machine import JOB


def bundle(path: Path, text: bytes) -> dict[str, str]:
    """Make an archive; the code of its spec."""
    body = archive((entry("train.py"), text))
    path.write_bytes(body)
    made = described(body)
    numbers = {"size": made.size, "unpacked": made.unpacked, "entries": made.entries}
    facts = {name: str(number) for name, number in numbers.items()}
    return {"kind": "bundle", "sha256": made.sha256, "root": made.root, **facts}


def spec(code: dict[str, str], revision: int) -> dict[str, Any]:
    """A job with this code."""
    facts = {"version": 1, "name": JOB, "run_id": "run-1", "argv": ["true"]}
    return {**facts, "code": code, "revision": revision}


def test_an_outdated_machine_brings_no_code(
    tmp_path: Path, directory: Store, machines: MakeMachine
) -> None:
    """Changed on B while A was off: A finds the newer spec, and its own archive stays there."""
    old, new = tmp_path / "old", tmp_path / "new"
    before, after = bundle(old, b"1"), bundle(new, b"2")
    b = machines(directory, "b", spec=spec(after, 2), bundle=str(new))
    b.start()
    b.take()
    b.release()
    a = machines(directory, "a", spec=spec(before, 1), bundle=str(old))
    a.start()
    assert a.take()["spec"]["code"] == after
    there = [info.key for info in directory.backend.objects(f"{JOB}/code")]
    assert there == [code_key(JOB, after["sha256"])]
