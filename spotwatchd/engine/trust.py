"""Whether a job that the store supplies may run on this machine.

Whoever can write to the store chooses what is in a spec, so it is held to the rules of the
socket, and it runs only as a user whom this machine's own configuration names, never root.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from spotwatchd.control.bodies import JobBody
from spotwatchd.control.parse import make_body
from spotwatchd.control.problems import Problem
from spotwatchd.core.ids import is_job_name
from spotwatchd.errors import JobError

# What a machine decides for itself, or what is no part of a request.
_OWN = {"store", "bundle", "change"}
_TAKEN = {each.name for each in fields(JobBody)} - _OWN

Lookup = Callable[[str], pwd.struct_passwd]


class Refused(JobError):
    """A store-supplied job does not run here.

    Attributes:
        waits: it may run later without a change in the store or the configuration.
    """

    def __init__(self, what: str, *, where: str, remedy: str, waits: bool = False) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.waits = waits


def admit(
    stored: dict[str, Any],
    store: str,
    allowed: Sequence[str],
    checkpoint_root: Path | None,
    lookup: Lookup = pwd.getpwnam,
) -> tuple[pwd.struct_passwd, JobBody]:
    """The user and the job of a spec from the store. Raises Refused.

    Args:
        stored: ``name`` and ``spec`` as the store has them: anything at all.
        store: its URL.
        allowed: ``allowed_users`` of the configuration: "NAME" or "THEIRS:OURS".
        checkpoint_root: below which such jobs keep their checkpoints here, or None.
        lookup: of the user database; raises KeyError.
    """
    name, spec, where = _parts(stored, store)
    user = _user(spec.get("user"), allowed, where, lookup)
    body = _body(name, spec, store, checkpoint_root, where)
    if body.argv is None or body.cwd is None or body.run_id is None:
        raise _refused("it has no command, working directory or run id", where)
    return user, body


def read(stored: dict[str, Any], store: str) -> JobBody:
    """What a spec from the store says, whoever may run it. Raises Refused where it says nothing."""
    name, spec, where = _parts(stored, store)
    return _body(name, spec, store, None, where)


def runs_as(user: str, allowed: Sequence[str], uid: int) -> bool:
    """Whether specs of the store's ``user`` run as ``uid`` on this machine."""
    try:
        return _user(user, allowed, "", pwd.getpwnam).pw_uid == uid
    except Refused:
        return False


def not_theirs(name: str, store: str, ours: str) -> Refused:
    """The refusal of a spec that would run as somebody else than ``ours``."""
    return _refused(
        f"{name} would not run as the user {ours} here",
        f"{store}/{name}/spec.json: user",
        f"start it as its own user, or as root, or map that user to {ours} in allowed_users",
    )


def unreadable(name: str, problem: dict[str, Any]) -> Refused:
    """The refusal of a job whose documents in the store are not what they should be."""
    return _refused(
        f"{name} cannot be read: {problem['what']}",
        str(problem["where"]),
        str(problem["remedy"]),
    )


def _parts(stored: dict[str, Any], store: str) -> tuple[str, dict[str, Any], str]:
    name, spec = stored.get("name"), stored.get("spec")
    where = f"{store}/{_shown(name)}/spec.json"
    if not isinstance(name, str) or not is_job_name(name) or not isinstance(spec, dict):
        raise _refused("its spec is not one", where)
    return name, spec, where


def _refused(why: str, where: str, remedy: str = "", *, waits: bool = False) -> Refused:
    return Refused(
        f"a job in the store is refused: {why}",
        where=where,
        remedy=remedy or "who wrote it? if it is yours, register it again with spotwatch run",
        waits=waits,
    )


def _shown(value: Any) -> str:
    text = str(value)[:64]
    return text if is_job_name(text) else repr(text)


def _user(user: Any, allowed: Sequence[str], where: str, lookup: Lookup) -> pwd.struct_passwd:
    where = f"{where}: user"
    if not isinstance(user, str) or not user or len(user) > 64 or not user.isprintable():
        raise _refused("it names no user", where)
    if user == "root":
        raise _refused(
            "it wants to run as root, and nothing from a store ever does",
            where,
            "register the job as an ordinary user",
        )
    ours = _mapped(user, allowed)
    if ours is None:
        raise _refused(
            f"this machine runs no jobs from the store as user {user}",
            where,
            f"add {user} to allowed_users in this machine's configuration, if you want that",
        )
    try:
        entry = lookup(ours)
    except (KeyError, ValueError):
        raise _refused(
            f"there is no user {ours} on this machine",
            where,
            f"create the user: useradd --create-home {ours}",
            waits=True,
        ) from None
    if entry.pw_uid == 0:
        raise _refused(
            f"{ours} is root on this machine, and nothing from a store ever runs as root",
            where,
            "name an ordinary user in allowed_users",
        )
    return entry


def _mapped(user: str, allowed: Sequence[str]) -> str | None:
    """Whom a job of the store's ``user`` runs as here, or None."""
    for entry in allowed:
        theirs, colon, ours = entry.partition(":")
        if theirs == user:
            return ours if colon else theirs
    return None


def _body(name: str, spec: dict[str, Any], store: str, root: Path | None, where: str) -> JobBody:
    given = {key: value for key, value in spec.items() if key in _TAKEN and value is not None}
    given["name"] = name
    if root is not None:
        given["checkpoint_dir"] = str(root / name)
    try:
        body = make_body(JobBody, given)
    except Problem as error:
        raise _refused(error.what, where) from error
    except ValueError as error:  # half a surrogate pair is no text
        raise _refused("its text is not Unicode", where) from error
    object.__setattr__(
        body, "store", store
    )  # a URL of ours may have settings that none of theirs may
    return body
