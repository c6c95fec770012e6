"""A newer spec in the store: which of it a job that is known here takes over, and when."""

from __future__ import annotations

import os
import pwd
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.config import Config
from spotwatchd.control.bodies import JobBody
from spotwatchd.engine.adopting import adopt, may_follow
from spotwatchd.engine.records import Kept
from spotwatchd.engine.trust import Refused

# Nothing is run here, so somebody else than who runs the tests will do, and is never root.
USER = pwd.getpwuid(os.geteuid() or 1)
OTHER = pwd.getpwuid(2)
CODE = {
    "kind": "bundle",
    "sha256": "a" * 64,
    "size": "10",
    "unpacked": "10",
    "entries": "1",
    "root": "/home/a/project",
}
NEWER_CODE = {**CODE, "sha256": "b" * 64}
BODY = JobBody(
    name="job",
    checkpoint_dir="/here/ckpt",
    argv=["/usr/bin/python3", "train.py", "--lr", "0.1"],
    cwd="/home/a/project",
    code=CODE,
    bundle="/home/a/.cache/bundle.tar.gz",
)


def known(body: JobBody = BODY, origin: str = "", user: pwd.struct_passwd = USER) -> Kept:
    """A job as it was registered here."""
    kept = Kept(user.pw_uid, user.pw_gid, body, "r1", "s3://b/p", "", revision=1, origin=origin)
    kept.replaces = "r0"
    return kept


def stored(user: str = USER.pw_name, **changes: Any) -> dict[str, Any]:
    """The store's spec of it."""
    body = {key: value for key, value in asdict(BODY).items() if key not in ("store", "bundle")}
    del body["change"]
    there = {"checkpoint_dir": "/there/ckpt", "run_id": "r2", "revision": 2, "user": user}
    return {"version": 1, **body, **there, **changes}


def config(*allowed: str) -> Config:
    """A machine that runs jobs of these users."""
    return Config(allowed_users=allowed, checkpoint_root=Path("/ckpt"))


ARGV = ["/usr/bin/python3", "train.py", "--lr", "0.2"]
NEEDS: dict[str, Any] = {
    "argv": ARGV,
    "env": {"A": "b"},
    "env_file": "/etc/secrets",
    "env_command": "vault",
    "data": ["/data"],
    "prepare": "make",
    "python": {"version": "3.12"},
    "code": NEWER_CODE,
    "signal": "SIGTERM",
    "interval": 60.0,
}


def test_a_newer_spec_is_taken_over_whole() -> None:
    """All that it says but for the places of this machine; from then on it is the store's."""
    kept = known()
    adopt(kept, stored(**NEEDS), config(USER.pw_name))
    assert {name: getattr(kept.body, name) for name in NEEDS} == NEEDS
    assert (kept.body.checkpoint_dir, kept.body.bundle) == ("/here/ckpt", None)
    assert (kept.run_id, kept.revision, kept.replaces) == ("r2", 2, "")
    assert kept.foreign, "its code is fetched, not looked for in the directory it had here"


def test_the_same_spec_with_another_number_changes_nothing_else() -> None:
    """Whoever may run here: what runs is what was registered here."""
    kept = known()
    other_place = {**CODE, "root": "/home/b/project"}
    adopt(kept, stored(code=other_place, python={"version": "3.9"}), config())
    assert (kept.body, kept.origin) == (BODY, "")
    assert (kept.run_id, kept.revision) == ("r2", 2)


def test_a_bundle_stays_with_its_code() -> None:
    """Changed in something else, the archive on this disk is still that of the code."""
    kept = known()
    adopt(kept, stored(argv=ARGV), config(USER.pw_name))
    assert kept.body.bundle == BODY.bundle


def test_what_was_changed_here_since_is_not_undone() -> None:
    """`run --continue` or `--new` whose job was stopped before the store knew of it."""
    for run_id in ("r1", "r0"):
        kept = known()
        kept.revision = 3
        adopt(kept, stored(argv=ARGV, run_id=run_id), config(USER.pw_name))
        assert (kept.body, kept.revision, kept.replaces) == (BODY, 3, "r0")
    adopt(kept, stored(argv=ARGV, run_id="removed-and-made-anew"), config(USER.pw_name))
    assert (kept.body.argv, kept.revision) == (ARGV, 2)


def test_a_job_that_somebody_else_starts_takes_over_its_number_only() -> None:
    """Nobody here starts it, so nothing is compared and nothing of it is run."""
    body = replace(BODY, argv=None, code=None, bundle=None)
    kept = known(body)
    adopt(kept, stored(), config())
    assert (kept.body, kept.revision) == (body, 2)


@pytest.mark.parametrize(
    ("spec", "allowed", "says"),
    [
        (stored(argv=ARGV), (), "changed on another machine"),
        (stored(argv=ARGV), ("somebody",), "changed on another machine"),
        (stored(code=NEWER_CODE), (), "code bundle aaaaaaaaaaaa -> bundle bbbbbbbbbbbb"),
        (stored("root", argv=ARGV), (USER.pw_name, "root"), "root"),
        (stored("mallory", argv=ARGV), (USER.pw_name,), "as user mallory"),
        (stored("x", argv=ARGV), (USER.pw_name, f"x:{OTHER.pw_name}"), "as the user"),
        (stored(argv=ARGV), (f"{USER.pw_name}:{OTHER.pw_name}",), "changed on another"),
        (stored(argv=ARGV, env={"A": 1}), (USER.pw_name,), "env"),
        (stored(argv=ARGV, code={"kind": "svn"}), (USER.pw_name,), "code"),
        (stored(argv=None), (USER.pw_name,), "no command"),
        (stored(argv=ARGV, run_id="../x"), (USER.pw_name,), "run_id"),
        (stored(env=["A=b"]), (USER.pw_name,), "env"),
        ("rubbish", (USER.pw_name,), "its spec is not one"),
    ],
)
def test_what_may_not_run_here_is_refused_and_changes_nothing(
    spec: Any, allowed: tuple[str, ...], says: str
) -> None:
    """Another user, none that is allowed, root, or no spec at all: in words, with a remedy."""
    kept = known()
    before = kept.to_document()
    with pytest.raises(Refused) as caught:
        adopt(kept, spec, config(*allowed))
    assert says in caught.value.what
    assert caught.value.remedy
    assert kept.to_document() == before


def test_a_user_with_another_name_here_is_followed() -> None:
    """By the mapping that let the job in; without it no more."""
    kept = known(origin="theirs")
    mapped = config(f"theirs:{USER.pw_name}")
    assert may_follow(kept, mapped)
    adopt(kept, stored("theirs", argv=ARGV), mapped)
    assert (kept.body.argv, kept.origin) == (ARGV, "theirs")
    assert not may_follow(kept, config(USER.pw_name))


@pytest.mark.parametrize(("here", "there"), [(None, "external"), ("external", None)])
def test_who_starts_it_is_not_changed_from_elsewhere(here: str | None, there: str | None) -> None:
    """A scheduler's job is never started by a daemon because the store says so, nor left alone."""
    kept = known(replace(BODY, resume=here))
    with pytest.raises(Refused, match="started by") as caught:
        adopt(kept, stored(resume=there), config(USER.pw_name))
    assert kept.body.resume == here
    assert caught.value.remedy
