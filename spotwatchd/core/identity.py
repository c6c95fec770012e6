"""One name, one job: when two specs are the same job, and which of two is to be run.

spec.json carries ``revision``, a number that grows when a person changes the job on purpose
(``run --continue`` and ``run --new``). A machine that was off meanwhile has an older one and
runs what the store says; a machine that was never asked to change anything changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spotwatchd.core.code import code_identity
from spotwatchd.core.spec import Spec
from spotwatchd.errors import JobError

# What differs from machine to machine although nobody changed the job.
_OF_THE_MACHINE = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|TZ|VIRTUAL_ENV|LD_LIBRARY_PATH"
    "|(LC_|PYTHON|CONDA_|CUDA_|NVIDIA_|OMP_|MKL_|TORCH_|NCCL_|HF_|TRANSFORMERS_).*"
)
_WHOLE = ("user", "checkpoint_glob", "signal", "resume")
# Commands may be long, and hold what is nobody's business.
_UNSAID = ("env_command", "prepare")


def revision_of(fields: Mapping[str, Any]) -> int:
    """The spec's revision; one without a number is the first."""
    value = fields.get("revision", 1)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 1


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a person changed between two specs of one name, each as ``OLD -> NEW``.

    What depends on the machine does not count: the interpreter's directory and version, the
    working directory (and where below it other paths lie), where checkpoints lie, where code
    and its archive were made. A commit or digest of the code does.
    """
    found = _argv(old.get("argv") or [], new.get("argv") or [])
    for name in _WHOLE:
        if old.get(name) != new.get(name):
            found.append(f"{name} {_shown(old.get(name))} -> {_shown(new.get(name))}")
    found += _turn(old, new)
    found += [f"the {name}" for name in _UNSAID if old.get(name) != new.get(name)]
    found += _paths(old, new) + _code(old.get("code"), new.get("code"))
    return found + _env(old.get("env"), new.get("env"))


def _turn(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What it asks of a machine, and its place in the queue; an older spec says neither."""
    asked = old.get("gpus"), new.get("gpus")
    place = old.get("priority") or 0, new.get("priority") or 0
    found = [f"gpus {_shown(asked[0])} -> {_shown(asked[1])}"] if asked[0] != asked[1] else []
    return found + ([f"priority {place[0]} -> {place[1]}"] if place[0] != place[1] else [])


def _paths(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for name in ("env_file", "data"):
        before, after = _places(old, name), _places(new, name)
        if before != after:
            found.append(f"{name} {_listed(before)} -> {_listed(after)}")
    return found


def _places(fields: Mapping[str, Any], name: str) -> list[str]:
    """The paths of a field; those below the working directory as seen from there."""
    value = fields.get(name)
    paths = value if isinstance(value, list) else [value] if value else []
    cwd = f"{str(fields.get('cwd') or '').rstrip('/')}/"
    return sorted(str(path).removeprefix(cwd) if cwd != "/" else str(path) for path in paths)


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(paths) or "nothing"


def _code(old: Any, new: Any) -> list[str]:
    before, after = code_identity(old), code_identity(new)
    return [] if before == after else [f"code {_short(before)} -> {_short(after)}"]


def _short(key: str) -> str:
    kind, _, digest = key.partition(" ")
    return f"{kind} {digest[:12]}" if key else "none"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _program(argv: Sequence[Any]) -> str:
    return str(argv[0]).rpartition("/")[2] if argv else ""


def _argv(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    found = []
    if _program(old) != _program(new):
        found.append(f"{_program(old) or 'nothing'} -> {_program(new) or 'nothing'}")
    before, after = _options(old[1:]), _options(new[1:])
    gone = [words for words in before if words not in after]
    come = [words for words in after if words not in before]
    for words in gone:
        # The same option with another value is one change, not two.
        twin = next((each for each in come if each.split()[0] == words.split()[0]), None)
        found.append(f"{words} -> {twin or 'nothing'}")
        if twin is not None:
            come.remove(twin)
    found += [f"nothing -> {words}" for words in come]
    if not found and list(old[1:]) != list(new[1:]):
        found.append("the order of the arguments")
    return found


def _options(words: Sequence[Any]) -> list[str]:
    """``--lr 0.1 -v train`` as ["--lr 0.1", "-v train"]: an option with what follows it."""
    found: list[str] = []
    for word in (str(each) or "''" for each in words):
        if found and found[-1].startswith("-") and " " not in found[-1] and word[0] != "-":
            found[-1] += f" {word}"
        else:
            found.append(" ".join(word.split()) or "''")
    return found


def _env(old: Any, new: Any) -> list[str]:
    """Names only: a value may be a secret."""
    old, new = (each if isinstance(each, dict) else {} for each in (old, new))
    names = sorted({*old, *new})
    changed = [n for n in names if old.get(n) != new.get(n) and not _OF_THE_MACHINE.fullmatch(n)]
    return [f"the variable {name}" for name in changed]


def another(job: str, changes: Sequence[str], where: str) -> JobError:
    """The refusal of a changed spec, with the two ways out."""
    return JobError(
        f"the job {job} exists with another spec: {'; '.join(changes)}",
        where=where,
        remedy="spotwatch run --continue ... takes the new spec and keeps checkpoints and run;\n"
        "          spotwatch run --new ... begins another run at step 0 and retires the old one",
    )


def check_owner(job: str, owner: Any, user: Any) -> None:
    """Raise JobError when the job is somebody else's."""
    if owner is not None and owner != user:
        raise JobError(
            f"the name {job} belongs to the user {owner} in this store",
            where=f"{job}/spec.json",
            remedy="choose another name, or another prefix in the store",
        )


def agreed(ours: Spec, stored: Spec | None, *, follow: bool) -> Spec:
    """What to run, of this machine's spec and the store's.

    Args:
        ours: revision 0: nobody has compared it with the store yet.
        stored: the store's, or None.
        follow: the store's may be run here.

    Raises JobError when they are two jobs, or the store's may not be run here.
    """
    if stored is None:
        return _numbered(ours, max(1, revision_of(ours.fields)))
    check_owner(ours.name, stored.fields.get("user"), ours.fields.get("user"))
    mine, theirs = revision_of(ours.fields), revision_of(stored.fields)
    if mine > theirs:
        return ours
    # A job that somebody else starts says nothing about its command.
    changes = differences(stored.fields, ours.fields) if ours.runnable else []
    if not changes:
        return ours if mine == theirs else _numbered(ours, theirs)
    if mine in (0, theirs):
        raise another(ours.name, changes, "spec.json in its store")
    if not follow:
        raise JobError(
            f"the job {ours.name} was changed on another machine: {'; '.join(changes)}",
            where="spec.json in its store",
            remedy="run it here with the new command once, or name its user in allowed_users",
        )
    mine_alone = {key: ours.fields[key] for key in ("checkpoint_dir",) if key in ours.fields}
    return replace(stored, fields={**stored.fields, **mine_alone})


def _numbered(spec: Spec, revision: int) -> Spec:
    if spec.fields.get("revision") == revision:
        return spec
    return replace(spec, fields={**spec.fields, "revision": revision})


def run_id_of(spec: Spec, stored: Spec | None, replaces: str) -> str:
    """The identity of the run: the store's, unless ours takes its place."""
    if stored is None or (replaces and stored.run_id == replaces):
        return spec.run_id
    return stored.run_id
