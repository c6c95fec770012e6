"""The tests bite: each patch in tests/faults plants one fault, and the tests it names fail.

A patch begins with a line ``# tests: PATH ...``: what to run against the faulty copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PATCHES = sorted((ROOT / "tests" / "faults").glob("*.patch"))
FAILED = 1  # of pytest's exit statuses; a collection error or a wrong option is another


def named_tests(patch: Path) -> list[str]:
    """The test paths that the patch names."""
    first = patch.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# tests: "), f"{patch.name} does not say which tests it is for"
    return first.removeprefix("# tests: ").split()


def copy_of_the_tree(target: Path) -> Path:
    """What the tests need, away from the working tree."""
    ignored = shutil.ignore_patterns("__pycache__", "faults", Path(__file__).name)
    for name in ("spotwatchd", "tests", "scripts", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def run_tests(tree: Path, paths: list[str]) -> subprocess.CompletedProcess[str]:
    """Run some tests of a tree, repeatably, to the first failure."""
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    profile = ["--hypothesis-profile=planted-faults"]
    command = [sys.executable, "-m", "pytest", *options, *profile, *paths]
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=tree, env=env, capture_output=True, text=True, check=False, timeout=170
    )


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_fault_is_caught(patch: Path, tmp_path: Path) -> None:
    """The patch applies, and the tests it names fail with it."""
    tree = copy_of_the_tree(tmp_path / "tree")
    applied = subprocess.run(
        ["patch", "-p1", "--no-backup-if-mismatch", "--fuzz=2", "-i", str(patch)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, f"{patch.name} no longer applies:\n{applied.stdout}"
    done = run_tests(tree, named_tests(patch))
    assert done.returncode == FAILED, f"{patch.name} was not caught:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", sorted({path for patch in PATCHES for path in named_tests(patch)}))
def test_without_a_fault_the_same_tests_pass(path: str, tmp_path: Path) -> None:
    """Or their failing would prove nothing."""
    done = run_tests(copy_of_the_tree(tmp_path / "tree"), [path])
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_faults() -> None:
    """An empty folder would be caught by nobody."""
    assert len(PATCHES) >= 10
