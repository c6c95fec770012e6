"""A job's spec as somebody changed it on another machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spotwatchd.config import Config
from spotwatchd.core.code import code_identity
from spotwatchd.core.identity import differences, revision_of
from spotwatchd.engine.identity import spec_of
from spotwatchd.engine.records import Kept
from spotwatchd.engine.trust import Refused, admit, not_theirs, read, runs_as
from spotwatchd.jobs.spawn import account


def adopt(kept: Kept, spec: Any, config: Config) -> None:
    """Take over what the store says is to be run; the checkpoint directory here stays.

    What comes from the store is held to trust.py, and runs as the job's user or not at all.
    A spec that is the same but for its number and its run changes nothing else, and one that
    was changed here since changes nothing.

    Args:
        kept: of the job; nothing of it is changed when the spec is refused.
        spec: anything at all.
        config: says whose specs may run here.

    Raises Refused when this machine may not run what the store says.
    """
    body = kept.body
    stored = {"name": body.name, "spec": spec}
    told = read(stored, kept.store)
    if revision_of(spec) < kept.revision and told.run_id in (kept.run_id, kept.replaces):
        return  # changed here, and not taken since: the store does not know it yet
    if body.argv is not None:
        changes = differences(spec_of(body, ""), spec_of(told, ""))
        if changes:
            _change(kept, stored, config, changes)
    kept.revision, kept.replaces = revision_of(spec), ""
    kept.run_id = told.run_id or kept.run_id


def _change(kept: Kept, stored: dict[str, Any], config: Config, changes: list[str]) -> None:
    old, ours = kept.body, account(kept.uid, kept.gid).name
    if not may_follow(kept, config):
        raise Refused(
            f"the job {old.name} was changed on another machine: {'; '.join(changes)}",
            where="allowed_users",
            remedy="run it here with the new command once, or name its user in allowed_users",
        )
    entry, new = admit(stored, kept.store, config.allowed_users, config.checkpoint_root)
    if new.managed != old.managed:
        raise _other_starter(old.name, external=not new.managed)
    if entry.pw_uid != kept.uid:
        raise not_theirs(old.name, kept.store, ours)
    # The bundle on this disk is that of the code it was made of.
    bundle = old.bundle if code_identity(old.code) == code_identity(new.code) else None
    kept.body = replace(new, checkpoint_dir=old.checkpoint_dir, bundle=bundle)
    # From here on it is the store's: its code is fetched, its user's places are made ours.
    kept.origin = str(stored["spec"]["user"])


def _other_starter(name: str, *, external: bool) -> Refused:
    """Who starts a job is not changed behind the back of whoever started it here."""
    now = "by another scheduler" if external else "by spotwatchd"
    return Refused(
        f"the job {name} is started {now} since it was changed on another machine",
        where="resume",
        remedy=f"spotwatch rm is for all machines; here, spotwatch run {name} as it is run there",
    )


def may_follow(kept: Kept, config: Config) -> bool:
    """Whether a newer spec in the store may be run here in the place of this one."""
    user = kept.origin or account(kept.uid, kept.gid).name
    return runs_as(user, config.allowed_users, kept.uid)
