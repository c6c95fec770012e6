"""From a file and the environment to a Config: every problem at once, each with its remedy.

The environment wins over the file. An unknown key is an error, because a misspelt
one would otherwise be a setting that silently has no effect.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from spotwatchd.config.tree import (
    SECTIONS,
    Config,
    Setting,
    environment_name,
    settings,
    user_state,
)
from spotwatchd.errors import ConfigError
from spotwatchd.wire.paths import SOCKET_NAME, private_runtime

# Variables that the daemon sets for the processes of a job (docs/architecture.md), so that a
# private daemon started from within a job does not take them for misspelt settings; and
# SPOTWATCH_CONFIG, which names the file itself.
NOT_SETTINGS = frozenset(
    f"SPOTWATCH_{word}"
    for word in (
        "JOB",
        "CHECKPOINT_DIR",
        "ATTEMPT",
        "ATTEMPT_DIR",
        "RESUME_STEP",
        "RESUME_FROM",
        "CAUSE",
        "RUN_ID",
        "GPUS",
        "CONFIG",
    )
)


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each of its settings came from.

    Attributes:
        config: the tree.
        origins: dotted name -> "default", "FILE line N" or "environment NAME".
    """

    config: Config
    origins: dict[str, str]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    what: str
    where: str
    remedy: str


class _Reader:
    """Collects values, their origins and the problems."""

    def __init__(self) -> None:
        self.known: dict[str, Setting] = {name: setting for name, setting, _ in settings()}
        self.values: dict[str, Any] = {}
        self.origins = dict.fromkeys(self.known, "default")
        self.problems: list[Problem] = []

    def take(self, name: str, raw: Any, origin: str, *, text: bool) -> None:
        setting = self.known[name]
        try:
            self.values[name] = setting.kind.parse(raw) if text else setting.kind.accept(raw)
        except ValueError as error:
            self.problems.append(Problem(f"{name} = {_shown(raw)}", origin, f"must be {error}"))
        else:
            self.origins[name] = origin

    def unknown(self, name: str, origin: str, candidates: list[str]) -> None:
        close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        remedy = (
            f"did you mean {close[0]}?" if close else "remove it; docs/configuration.md has all"
        )
        self.problems.append(Problem(f"there is no setting {name}", origin, remedy))


def _shown(raw: Any) -> str:
    text = repr(raw) if not isinstance(raw, str) else f'"{raw}"'
    return text if len(text) <= 80 else text[:77] + "..."


def line_of(text: str, name: str) -> int | None:
    """The line of the file that sets ``name``, or None when it is written in another style."""
    section, _, key = name.rpartition(".")
    at = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            at = header.group(1)
            if at == name:
                return number
        elif (found := re.match(r"\s*([\w.-]+)\s*=", line)) and (
            (at == section and found.group(1) == key) or (not at and found.group(1) == name)
        ):
            return number
    return None


def _read_file(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"the configuration cannot be read: {reason}",
            where=str(path),
            remedy="pass --config FILE with a file that is there and readable",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the configuration is not UTF-8 text: {error.reason} at byte {error.start}",
            where=str(path),
            remedy="save it as UTF-8",
        ) from error
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"the configuration is not TOML: {error}",
            where=str(path),
            remedy='a setting reads `name = "value"`, a section `[name]`',
        ) from error


def _flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted names of everything in the file; what is no section of ours stays whole."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if name in SECTIONS and isinstance(value, dict):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat


def _from_file(reader: _Reader, path: Path) -> None:
    tree, text = _read_file(path)
    for name, value in _flatten(tree).items():
        line = line_of(text, name)
        origin = f"{path} line {line}" if line else f"{path}"
        if name in SECTIONS:
            remedy = f"write it as a section: [{name}]"
            reader.problems.append(Problem(f"{name} is not a setting", origin, remedy))
        elif name in reader.known:
            reader.take(name, value, origin, text=False)
        else:
            # A whole table under an unknown name is a misspelt section.
            reader.unknown(
                name, origin, list(SECTIONS if isinstance(value, dict) else reader.known)
            )


def _from_environment(reader: _Reader, environ: Mapping[str, str]) -> None:
    names = {environment_name(name): name for name in reader.known}
    for variable in sorted(environ):
        if not variable.startswith("SPOTWATCH_") or variable in NOT_SETTINGS:
            continue
        if variable in names:
            reader.take(names[variable], environ[variable], f"environment {variable}", text=True)
        else:
            reader.unknown(variable, "environment", list(names))


def _private_defaults(reader: _Reader) -> None:
    """Everything of a private daemon is its user's own, root's too, and beside its socket."""
    usual = private_runtime()
    socket = reader.values.setdefault("socket", usual / SOCKET_NAME)
    elsewhere = socket.parent != usual
    reader.values.setdefault("runtime_dir", socket.parent)
    reader.values.setdefault("state_dir", socket.parent / "state" if elsewhere else user_state())
    reader.values.setdefault("socket_mode", 0o600)


def _contradictions(config: Config, origins: Mapping[str, str]) -> list[Problem]:
    found = []
    save = config.checkpoint
    if save.min_interval > save.max_interval:
        found.append(
            Problem(
                f"checkpoint.min_interval = {save.min_interval:g} is above "
                f"checkpoint.max_interval = {save.max_interval:g}",
                origins["checkpoint.min_interval"],
                "swap them",
            )
        )
    if len(str(config.socket).encode()) > 107:  # sun_path, unix(7), less its end mark
        found.append(
            Problem(
                f"socket = {_shown(str(config.socket))} is too long",
                origins["socket"],
                "a Unix socket's path has at most 107 bytes",
            )
        )
    return found


def _error(problems: list[Problem]) -> ConfigError:
    if len(problems) == 1:
        only = problems[0]
        return ConfigError(only.what, where=only.where, remedy=only.remedy)
    blocks = [
        f"  {number}. {problem.what}\n     where   {problem.where}\n     fix     {problem.remedy}"
        for number, problem in enumerate(problems, 1)
    ]
    return ConfigError(f"{len(problems)} settings are wrong:\n" + "\n".join(blocks))


def _build(values: dict[str, Any], *, private: bool) -> Config:
    top = {name: value for name, value in values.items() if "." not in name}
    for section, tree in SECTIONS.items():
        prefix = f"{section}."
        inner = {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
        top[section] = tree(**inner)
    return Config(**top, private=private)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    given: Mapping[str, str] | None = None,
    private: bool = False,
) -> Loaded:
    """Read the configuration.

    Args:
        path: the TOML file, or None for none.
        environ: usually ``os.environ``; wins over the file.
        given: settings by dotted name from the command line; win over everything.
        private: a daemon of one user: other defaults for directories and socket.

    Raises:
        ConfigError: naming every problem, each with file and line (or variable), value and remedy.
    """
    reader = _Reader()
    if path is not None:
        _from_file(reader, path)
    _from_environment(reader, environ)
    for name, value in (given or {}).items():
        reader.take(name, value, f"option --{name}", text=True)
    if private:
        _private_defaults(reader)
    if reader.problems:
        raise _error(reader.problems)
    config = _build(reader.values, private=private)
    if problems := _contradictions(config, reader.origins):
        raise _error(problems)
    return Loaded(config, reader.origins)
