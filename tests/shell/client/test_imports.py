"""Importing the client costs a training environment nothing."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("client", "wire")
SHOW = (
    "import sys; before = set(sys.modules); import spotwatchd.client, spotwatchd, json;"
    "spotwatchd.connect; print(json.dumps(sorted(set(sys.modules) - before)))"
)


def loaded(python: str) -> set[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        [python, "-c", SHOW], capture_output=True, text=True, check=True, env=environment
    )
    return set(json.loads(run.stdout))


def test_only_the_standard_library_is_loaded_and_no_heavy_part_of_it() -> None:
    modules = loaded(sys.executable)
    tops = {name.partition(".")[0] for name in modules} - {"spotwatchd"}
    assert tops <= sys.stdlib_module_names
    assert not modules & {"asyncio", "ssl", "http.client", "email", "subprocess", "logging"}


def test_the_source_is_python_3_10() -> None:
    files = [path for room in ROOMS for path in (REPOSITORY / "spotwatchd" / room).glob("*.py")]
    files += [REPOSITORY / "spotwatchd/errors.py", REPOSITORY / "spotwatchd/__init__.py"]
    assert len(files) > 8
    for path in files:
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_a_python_3_10_imports_it_where_there_is_one() -> None:
    """With no 3.10 on the machine the oldest one there is takes its place."""
    found = shutil.which("python3.10")
    if (
        found is None
        or subprocess.run([found, "-V"], check=False, capture_output=True).returncode != 0
    ):
        pyenv = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
        found = str(pyenv[0]) if pyenv else sys.executable
    assert "spotwatchd.client.job" in loaded(found)
