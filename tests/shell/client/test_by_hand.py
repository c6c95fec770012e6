"""What a person types to go on elsewhere with a process that nobody launched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TELL = (
    "import json; from spotwatchd.client.byhand import by_hand; print(json.dumps(by_hand('job')))"
)
NOTEBOOK = {"JPY_SESSION_NAME": "/home/ada/train.ipynb"}


def _told(words: list[str], cwd: Path, env: dict[str, str] | None = None) -> str | None:
    """What a program with this command line says of itself."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    told: str | None = json.loads(done.stdout)
    return told


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A training in a directory with a blank."""
    directory = tmp_path / "my project"
    directory.mkdir()
    path = directory / "train.py"
    path.write_text(TELL)
    return path


def test_a_script_is_started_as_it_was(script: Path) -> None:
    """Directory, interpreter, options and arguments, quoted for a shell."""
    words = [sys.executable, "-O", "train.py", "--name", "a b"]
    told = _told(words, script.parent)
    assert told == f"cd '{script.parent}' && {sys.executable} -O train.py --name 'a b'"


def test_in_tmux_in_a_session_of_its_name(script: Path) -> None:
    """So that it survives the next hang-up too."""
    told = _told([sys.executable, "train.py"], script.parent, {"TMUX": "/run/tmux-0/default,1,0"})
    assert told is not None
    assert told.startswith("tmux new-session -s job ")
    assert "train.py" in told


@pytest.mark.parametrize(("env", "expected"), [(NOTEBOOK, "train.ipynb"), ({}, None)])
def test_a_notebook_is_opened(tmp_path: Path, env: dict[str, str], expected: str | None) -> None:
    """A kernel's own command line helps nobody; its notebook does."""
    (tmp_path / "ipykernel.py").write_text("")
    told = _told([sys.executable, "-c", f"import ipykernel; {TELL}"], tmp_path, env)
    assert (told is None) == (expected is None)
    assert expected is None or expected in str(told)


@pytest.mark.parametrize(
    "argument", ["--hf-token=abc", "--password", "x\nrm -rf /", "x\x1b[2J", "y" * 5000]
)
def test_what_is_not_for_the_store_is_not_told(script: Path, argument: str) -> None:
    """What may be a secret, what would draw on a terminal, and what is too long."""
    assert _told([sys.executable, "train.py", argument], script.parent) is None
