"""What a job needs besides its checkpoint, looked for before it starts. As the job's user."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from spotwatchd.store.lacking import Lacking
from spotwatchd.wire import envfile

# A cold start of an interpreter from a slow network disk; more is a hang.
_VERSION_SECONDS = 60.0
_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def check_data(paths: Sequence[str]) -> None:
    """Every path is there and may be read. Raises Lacking."""
    for path in paths:
        try:
            info = Path(path).stat()
        except OSError as error:
            reason = "is not on this machine" if _absent(error) else "cannot be reached"
            raise Lacking(f"data path {path} {reason}", where=path, remedy=_MOUNT) from error
        needed = os.R_OK | (os.X_OK if stat.S_ISDIR(info.st_mode) else 0)
        if not os.access(path, needed):
            raise Lacking(
                f"data path {path} cannot be read by uid {os.getuid()}",
                where=path,
                remedy="give that user the right to read it",
            )


_MOUNT = "mount or copy it there, or register the job with another --data"


def _absent(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def secrets(path: str | None, command: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """The variables of the environment file and command. Raises Lacking, without values."""
    try:
        return envfile.load(path, command, dict(env))
    except envfile.BadEnvironment as error:
        raise Lacking(error.what, where=path or command or "", remedy=error.remedy) from None


def check_directory(path: str, *, has_code: bool) -> None:
    """The working directory exists and may be entered. Raises Lacking."""
    if not os.access(path, os.X_OK) or not Path(path).is_dir():
        remedy = "create it on this machine, and put the code there"
        if not has_code:
            remedy += "; or let the code travel: spotwatch run --code git or --code bundle"
        else:
            remedy = "the job's code has no such directory: register the job again"
        raise Lacking(
            f"the working directory {path} is not on this machine", where=path, remedy=remedy
        )


def check_program(
    argv: Sequence[str], cwd: str, env: Mapping[str, str], python: Mapping[str, str]
) -> None:
    """The program can be executed, and is the Python that the job was made with. Raises Lacking."""
    program = os.path.join(cwd, argv[0])  # noqa: PTH118 - an absolute argv[0] replaces cwd
    if not Path(program).is_file() or not os.access(program, os.X_OK):
        raise Lacking(
            f"the program {argv[0]} is not on this machine",
            where=program,
            remedy=_how_to_get(argv[0], python),
        )
    interpreter = python.get("executable")
    if not interpreter:
        return
    _check_script(argv, cwd)
    if not Path(interpreter).is_file() or not os.access(interpreter, os.X_OK):
        raise Lacking(
            f"the interpreter {interpreter} is not on this machine",
            where=interpreter,
            remedy=_how_to_get(interpreter, python),
        )
    found, wanted = _version(interpreter, env), _short(python.get("version", ""))
    if wanted and found != wanted:
        raise Lacking(
            f"{interpreter} is Python {found or '(it does not run)'} here, the job needs {wanted}",
            where=interpreter,
            remedy=_how_to_get(interpreter, python),
        )


def _check_script(argv: Sequence[str], cwd: str) -> None:
    """``python train.py``: the file is there. What follows an option may be anything."""
    script = argv[1] if len(argv) > 1 else "-"
    path = os.path.join(cwd, script)  # noqa: PTH118 - an absolute script replaces cwd
    if script.endswith(".py") and not script.startswith("-") and not Path(path).exists():
        raise Lacking(
            f"{script} is not on this machine",
            where=path,
            remedy="put the code there, or let it travel: spotwatch run --code git or bundle",
        )


def _how_to_get(program: str, python: Mapping[str, str]) -> str:
    prefix, version = python.get("prefix", ""), _short(python.get("version", ""))
    if python.get("kind") == "conda" and prefix:
        made = f"conda create --prefix {shlex.quote(prefix)} python={version}"
    elif python.get("kind") == "venv" and prefix:
        made = f"python{version} -m venv {shlex.quote(prefix)}"
    elif version:
        made = f"install Python {version} as {program}"
    else:
        return f"install it as {program}, or bake it into the image"
    return f"{made}, with the job's packages; or let --prepare do it"


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _version(interpreter: str, env: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            [interpreter, "-I", "-S", "-c", _VERSION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(env),
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("ascii", "replace").strip()
