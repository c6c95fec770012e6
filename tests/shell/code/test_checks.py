"""What a job needs besides its checkpoint: each thing that may be missing is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spotwatchd.store import checks
from spotwatchd.store.lacking import Lacking
from spotwatchd.wire import envfile

VERSION = ".".join(map(str, sys.version_info[:3]))


def test_what_is_there_is_not_missing(tmp_path: Path) -> None:
    """Data, directory, program, interpreter of the same minor version, script."""
    (tmp_path / "train.py").touch()
    checks.check_data([str(tmp_path), "/dev/null"])
    checks.check_directory(str(tmp_path), has_code=False)
    python = {"executable": sys.executable, "version": VERSION}
    checks.check_program([sys.executable, "train.py"], str(tmp_path), {}, python)
    checks.check_program([sys.executable, "-c", "x.py"], str(tmp_path), {}, python)
    checks.check_program([sys.executable, "-m", "x"], str(tmp_path), {}, python)


@pytest.mark.parametrize(
    ("python", "remedy"),
    [
        ({"kind": "venv", "prefix": "/opt/my env", "version": "3.11.2"}, "-m venv '/opt/my env'"),
        (
            {"kind": "conda", "prefix": "/opt/c", "version": "3.11.2"},
            "conda create --prefix /opt/c",
        ),
        ({"kind": "system", "prefix": "/usr", "version": "3.11.2"}, "install Python 3.11"),
        ({}, "bake it into the image"),
    ],
)
def test_a_missing_program_names_its_environment(python: dict[str, str], remedy: str) -> None:
    """How to make it depends on what it was."""
    with pytest.raises(Lacking, match="/opt/none/python is not on this machine") as caught:
        checks.check_program(["/opt/none/python", "t.py"], "/", {}, python)
    assert remedy in caught.value.remedy


def test_another_version_is_not_the_same_interpreter() -> None:
    """The minor version decides which packages fit."""
    python = {"executable": sys.executable, "version": "2.7.18", "kind": "system"}
    with pytest.raises(Lacking, match=r"here, the job needs 2\.7"):
        checks.check_program([sys.executable, "-V"], "/", {}, python)


def test_a_missing_script_is_missing_code(tmp_path: Path) -> None:
    """Python would end with status 2, which would count as a crash."""
    python = {"executable": sys.executable, "version": VERSION}
    with pytest.raises(Lacking, match=r"train\.py is not on this machine"):
        checks.check_program([sys.executable, "train.py"], str(tmp_path), {}, python)


def test_a_file_that_cannot_be_executed_is_no_program(tmp_path: Path) -> None:
    """Nor is a directory."""
    (tmp_path / "run.sh").write_text("x")
    for name in ("run.sh", "."):
        with pytest.raises(Lacking):
            checks.check_program([str(tmp_path / name)], "/", {}, {})


@pytest.mark.parametrize("has_code", [True, False])
def test_a_missing_directory_says_how_code_travels(tmp_path: Path, has_code: bool) -> None:
    """Unless it has."""
    with pytest.raises(Lacking) as caught:
        checks.check_directory(str(tmp_path / "no"), has_code=has_code)
    assert ("--code" in caught.value.remedy) is not has_code


# -- secrets ---------------------------------------------------------------------------------


def test_an_environment_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    """Comments, export, quotes, = in values; a later line wins."""
    path = tmp_path / "e"
    path.write_text("# c\n\nA=1\nexport B = 'x y'\nC=\"a=b\"\nD=\nE='\nA=2\n")
    path.chmod(0o640)
    assert envfile.load(str(path), None) == {"A": "2", "B": "x y", "C": "a=b", "D": "", "E": "'"}


def test_a_command_gives_variables_and_wins_over_the_file(tmp_path: Path) -> None:
    """It runs in the environment of the job."""
    path = tmp_path / "e"
    path.write_text("A=1\nB=1\n")
    path.chmod(0o600)
    found = envfile.load(str(path), 'echo "A=$X"', {"X": "from the job"})
    assert found == {"A": "from the job", "B": "1"}


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("A=hunter2\n", 0o644, "open to every user"),
        ("A=hunter2\n", 0o602, "open to every user"),
        ("A=ok\nhunter2\n", 0o600, "line 2"),
        ("1A=hunter2\n", 0o600, "line 1"),
        ("A=" + "hunter2" * 200_000, 0o600, "1 MiB"),
        ("A=hunter2\udcff", 0o600, "UTF-8"),
    ],
)
def test_a_bad_file_is_named_without_its_contents(
    tmp_path: Path, text: str, mode: int, says: str
) -> None:
    """What is said goes to a log."""
    path = tmp_path / "e"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    with pytest.raises(Lacking, match=says) as caught:
        checks.secrets(str(path), None, {})
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("path", ["/dev/null", "/usr"])
def test_what_is_no_file_is_no_environment_file(path: str) -> None:
    """A device or a directory: named as such."""
    with pytest.raises(Lacking, match=f"{path} is not a file"):
        checks.secrets(path, None, {})


@pytest.mark.parametrize("command", ["echo hunter2; exit 3", "echo hunter2", "printf 'A=\\377'"])
def test_a_bad_command_is_named_without_its_output(command: str) -> None:
    """The command itself is no secret."""
    with pytest.raises(Lacking) as caught:
        checks.secrets(None, command.replace("hunter2", "$S"), {"S": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.root
def test_another_user_cannot_read_the_environment_of_a_program() -> None:
    """The kernel's rule, on which the way of the secrets relies."""
    with subprocess.Popen(["/bin/sleep", "60"], env={"TOKEN": "hunter2"}) as program:
        read = ["/bin/cat", f"/proc/{program.pid}/environ"]
        denied = subprocess.run(read, user=65534, capture_output=True, check=False)
        assert (denied.returncode != 0, b"hunter2" in denied.stdout) == (True, False)
        assert b"hunter2" in Path(f"/proc/{program.pid}/environ").read_bytes()
        program.kill()


def test_the_shim_gives_secrets_to_the_program_alone(tmp_path: Path) -> None:
    """Its own environment and command line have none; the file is read just before the start."""
    from spotwatchd.jobs import shim

    secret = tmp_path / "e"
    secret.write_text("TOKEN=hunter2\n")
    secret.chmod(0o600)
    program = "cat /proc/$PPID/environ /proc/$PPID/cmdline > parent; echo $TOKEN > own"
    command = [sys.executable, "-I", "-S", shim.__file__, "--directory", str(tmp_path)]
    command += ["--grace", "5", "--env-file", str(secret), "--", "/bin/sh", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own").read_text() == "hunter2\n"
    assert "hunter2" not in (tmp_path / "parent").read_text()
    assert "--env-file" in (tmp_path / "parent").read_text()
