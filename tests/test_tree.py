"""The tree as a whole: files, rooms, scripts, and the README, whose commands are run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tomllib

import spotwatchd

ROOT = Path(__file__).resolve().parent.parent
# Hidden folders are caches and tools' own, but for these.
_HIDDEN = (".ci", ".gitignore")


def tree() -> Iterator[Path]:
    """Every file of the tree, as a clone would have it, caches and builds left out."""
    for folder, names, files in os.walk(ROOT):
        names[:] = [n for n in names if (n[0] != "." and n != "__pycache__") or n in _HIDDEN]
        names[:] = [n for n in names if n not in ("build", "dist", "shared", "spotwatchd.egg-info")]
        for name in files:
            if name[0] != "." or name in _HIDDEN:
                yield Path(folder) / name


def texts() -> Iterator[tuple[str, str]]:
    """(path, text) of every file that is text."""
    for path in tree():
        raw = path.read_bytes()
        if b"\0" not in raw:
            yield path.relative_to(ROOT).as_posix(), raw.decode("utf-8")


def load(script: str) -> ModuleType:
    """A program of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_file_of_code_is_long() -> None:
    """Files have at most 400 lines, tests 600: what is longer has more than one subject."""
    lines = {name: text.count("\n") for name, text in texts() if name.endswith(".py")}
    assert lines["spotwatchd/errors.py"] > 10
    limits = {name: 600 if name.startswith("tests/") else 400 for name in lines}
    assert {name: count for name, count in lines.items() if count > limits[name]} == {}


def test_libraries_stay_in_their_rooms() -> None:
    """One third-party library, one room; light rooms need none."""
    assert list(load("rooms").breaches(ROOT / "spotwatchd")) == []


PLANTED = {
    "core/x.py": ("import aiohttp\n", "core/x.py:1: aiohttp may be imported only in"),
    "client/x.py": ("def f():\n    import torch\n", "client/x.py:2: torch may be"),
    "wire/x.py": ("import tomllib\n", "tomllib is not in the standard library of Python 3.10"),
    "client/y.py": ("try:\n    f()\nexcept* OSError:\n    pass\n", "Python 3.10 does not read"),
    "jobs/x.py": ("from requests.adapters import X\n", "requests has no room"),
    "store/s3.py": ("import boto3.session\n", None),
}


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_library_out_of_its_room_is_found(tmp_path: Path, name: str) -> None:
    """The rule bites: a planted import is named with its line, an allowed one is not."""
    source, says = PLANTED[name]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(source)
    found = list(load("rooms").breaches(tmp_path))
    if says is None:
        assert found == []
    else:
        assert len(found) == 1
        assert says in found[0]


def test_nothing_points_at_the_machine_it_was_written_on() -> None:
    """No file holds a path of a developer's workplace."""
    # Spelt so that this file does not find itself.
    pattern = re.compile(r"(?<![\w.$-])/(?:wo" + r"rk|ro" + r"ot)(?=/\w)")
    assert [(name, m.group()) for name, text in texts() for m in pattern.finditer(text)] == []


def test_every_dependency_has_a_tested_lower_bound() -> None:
    """The bounds can be read by scripts/test-lower-bounds, and the pins lie above them."""
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    bounds = dict(pin.split("==") for pin in load("lower_bounds").lowest(ROOT / "pyproject.toml"))
    assert set(bounds) >= {"aiohttp", "boto3", "psutil", "structlog"}

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")[:3]]

    below = [name for name in bounds if numbers(pins[name]) < numbers(bounds[name])]
    assert below == []


def test_the_base_install_pulls_nothing() -> None:
    """A training environment that installs the package gets no other with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []


def test_the_changelog_knows_the_version() -> None:
    """The version is that of the newest section, or that section is still open."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert newest is not None
    assert newest.group(1) in ("Unreleased", spotwatchd.__version__)


@pytest.mark.parametrize(
    "script",
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci/run"]
        if path.suffix in ("", ".sh") and path.is_file()
    ),
)
def test_scripts_are_sound(script: str) -> None:
    """Bash reads them, they stop at the first error, and those to be run can be."""
    path = ROOT / script
    subprocess.run(["bash", "-n", path], check=True)
    if path.suffix != ".sh":
        assert "set -euo pipefail" in path.read_text()
        assert os.access(path, os.X_OK)


def test_links_in_the_docs_lead_somewhere() -> None:
    """Every relative link of a page names a file of the tree."""
    missing = [
        (name, target)
        for name, text in texts()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert missing == []


def test_the_policy_names_what_the_store_asks_for() -> None:
    """The IAM policy is JSON and allows each permission that a refusal may name."""
    policy = json.loads((ROOT / "packaging/iam/policy.json").read_text())
    allowed = {
        action
        for statement in policy["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    named = {
        action
        for name, text in texts()
        if name.startswith("spotwatchd/store/")
        for action in re.findall(r'"(s3:[A-Z]\w+)"', text)
    }
    assert named <= allowed


_BLOCK = re.compile(
    r"^<!-- test(?: file=(\S+))? -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.fixture
def commands(short_dir: Path) -> dict[str, str]:
    """An environment where the commands of this tree are on PATH, and no daemon of the machine."""
    bin_dir, runtime = short_dir / "bin", short_dir / "run"
    bin_dir.mkdir()
    runtime.mkdir(mode=0o700)
    cli = "-m spotwatchd.cli"
    programs = {"spotwatch": f"{cli}.main", "spotwatchd": f"{cli}.daemon", "python3": ""}
    for name, options in programs.items():
        script = bin_dir / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        script.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPOTWATCH_", "XDG_"))}
    return {
        **kept,
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(short_dir),
        "XDG_RUNTIME_DIR": str(runtime),
        "SPOTWATCH_SOCKET": str(runtime / "s.sock"),
    }


def test_the_readme_works(short_dir: Path, commands: dict[str, str]) -> None:
    """The README's files are written and its commands run, in order, and each succeeds."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    place = short_dir / "place"
    place.mkdir()
    said = ""
    for file, language, text in blocks:
        if file:
            (place / file).write_text(text, encoding="utf-8")
            continue
        assert language == "bash"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=place,
            env=commands,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    assert "step 30" in said
    assert "acme-checkpoints" in said
