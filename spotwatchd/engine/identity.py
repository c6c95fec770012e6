"""``run`` with a name that exists: the same job, a changed one, or somebody else's."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spotwatchd.control.bodies import JobBody
from spotwatchd.core.identity import another, check_owner, differences, revision_of
from spotwatchd.engine.store_calls import store_call
from spotwatchd.engine.trust import runs_as
from spotwatchd.errors import JobError, SpotwatchError, StoreUnavailable
from spotwatchd.jobs.spawn import Account

# A person waits for `run`; what is not compared now is compared when the job is taken.
_PEEK_LIMIT = 8.0


@dataclass(frozen=True)
class Place:
    """Where a registered job stands in the history of its name.

    Attributes:
        run_id: identity of the run.
        revision: of the spec (core/identity.py); 0: not compared with the store yet.
        replaces: the run that this one takes the place of, "" for none.
        halted: the store says that nothing is to be run: finished, crashed or stopped.
        origin: its user as the store names them, where that is another name than here; else "".
    """

    run_id: str
    revision: int = 0
    replaces: str = ""
    halted: str = ""
    origin: str = ""


def spec_of(body: JobBody, user: str) -> dict[str, Any]:
    """The fields of a spec that two machines agree on, and those it takes to compare them."""
    return {
        "argv": body.argv,
        "cwd": body.cwd,
        "env": body.env,
        "user": user,
        "checkpoint_glob": body.checkpoint_glob,
        "signal": body.signal,
        "resume": body.resume,
        **needs_of(body),
    }


def needs_of(body: JobBody) -> dict[str, Any]:
    """What a machine must have besides the checkpoint, as the spec says it."""
    names = ("env_file", "env_command", "data", "prepare", "python", "code", "gpus", "priority")
    return {name: getattr(body, name) for name in names}


async def place(body: JobBody, store: str, who: Account, allowed: Sequence[str] = ()) -> Place:
    """Compare with what the store has under the name.

    Args:
        body: as it was asked for.
        store: URL.
        who: asks.
        allowed: ``allowed_users``: a user who has another name here is the same user.

    Raises JobError: another spec without ``change``, another owner, or a removal under way.
    """
    fresh = body.run_id or secrets.token_hex(8)
    if body.argv is None and body.change is None:
        return Place(fresh)  # it runs already: nobody wants to wait for a store
    try:
        found = await store_call(who, "peek", store, body.name, limit=_PEEK_LIMIT)
    except (StoreUnavailable, SpotwatchError) as error:
        if body.change is not None:
            raise JobError(
                f"job {body.name} cannot be changed now: {error.what}",
                where=store,
                remedy="try again when the store answers",
            ) from error
        return Place(fresh)  # the take compares before anything runs
    if found["spec"] is None:
        return Place(fresh, 1)
    owner = found["spec"].get("user")
    mapped = owner != who.name and runs_as(owner, allowed, who.uid)
    if not mapped:
        check_owner(body.name, owner, who.name)
    where = await _against(body, found, store, who, fresh)
    return replace(where, origin=owner) if mapped else where


async def _against(
    body: JobBody, found: dict[str, Any], store: str, who: Account, fresh: str
) -> Place:
    spec = found["spec"]
    if (found["wanted"] or {}).get("state") == "removed":
        raise JobError(
            f"the job {body.name} is being removed",
            where=store,
            remedy=f"spotwatch rm {body.name} --yes finishes that; then run it again",
        )
    run_id, revision = str(spec["run_id"]), revision_of(spec)
    if body.change is None:
        # That it is the same user, perhaps by another name, was seen before.
        changes = differences(spec, spec_of(body, str(spec.get("user") or who.name)))
        if changes:
            raise another(body.name, changes, f"{store}/{body.name}/spec.json")
        return Place(run_id, revision, halted=str(found["halted"]))
    if found["halted"]:
        await store_call(who, "revive", store, body.name)
    if body.change == "new":
        return Place(fresh, revision + 1, replaces=run_id)
    return Place(run_id, revision + 1)
