"""NAME=VALUE lines: a job's secrets, on their way from a file or a command to the program.

Read by the shim just before the program starts, and by the check before that: both run as
the job's user. No message here ever repeats a value. Standard library only, and nothing of
this package: the shim loads it by its path.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess

LARGEST = 1 << 20
# A command that fetches secrets asks a service on the network.
COMMAND_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadEnvironment(ValueError):
    """The file or the command does not give an environment.

    Attributes:
        what, remedy: for people, without any value.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def parse(text: str, where: str) -> dict[str, str]:
    """The variables in ``text``: one NAME=VALUE a line, ``#`` comments, ``export`` allowed.

    Matching quotes around a value are taken off; nothing else is interpreted.

    Raises:
        BadEnvironment: naming the line, never what is in it.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.removeprefix("export ").partition("=")
        if not equals or not _NAME.fullmatch(name.strip()) or "\0" in value:
            raise BadEnvironment(
                f"line {number} of {where} is not NAME=VALUE", "write one NAME=VALUE a line"
            )
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def from_file(path: str) -> dict[str, str]:
    """The variables in a file that only its owner (and group) may read.

    Raises:
        BadEnvironment: it is not there, not to be read, open to everybody, or not such a file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadEnvironment(
            f"the environment file {path} cannot be read: {(error.strerror or '').lower()}",
            f"put it there, readable by uid {os.getuid()} alone (chmod 600)",
        ) from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):  # nor can Python open a directory
        os.close(fd)
        raise BadEnvironment(f"{path} is not a file", "name a file of NAME=VALUE lines")
    with os.fdopen(fd, "rb") as file:
        if info.st_mode & 0o007:
            raise BadEnvironment(
                f"the environment file {path} is open to every user of this machine",
                f"chmod 600 {path}",
            )
        return _decoded(file.read(LARGEST + 1), path)


def from_command(command: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """The variables that ``command`` (for /bin/sh) prints.

    Raises:
        BadEnvironment: it fails, takes over ``COMMAND_SECONDS``, or prints something else.
    """
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadEnvironment(
            f"the environment command takes over {COMMAND_SECONDS:g} s", f"run it: {command}"
        ) from None
    if done.returncode != 0:
        raise BadEnvironment(
            f"the environment command ended with status {done.returncode}", f"run it: {command}"
        )
    return _decoded(done.stdout, "what the environment command prints")


def _decoded(raw: bytes, where: str) -> dict[str, str]:
    if len(raw) > LARGEST:
        raise BadEnvironment(f"{where} is larger than 1 MiB", "keep only NAME=VALUE lines in it")
    try:
        return parse(raw.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise BadEnvironment(f"{where} is not UTF-8", "save it as UTF-8") from None


def load(
    path: str | None, command: str | None, env: dict[str, str] | None = None
) -> dict[str, str]:
    """The variables of the file, and over them those of the command. Raises BadEnvironment."""
    found = from_file(path) if path else {}
    return {**found, **(from_command(command, env) if command else {})}
