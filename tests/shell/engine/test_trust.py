"""Specs from a store: what is forged never gets as far as a job, and says why."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.engine.trust import Refused, admit

ALLOWED = ("ubuntu", "theirs:ours", "toor", "sly:toor", "gone")
USERS = {"ubuntu": 1000, "ours": 1001, "toor": 0, "root": 0, "mallory": 1002}
SPEC: dict[str, Any] = {
    "version": 1,
    "name": "job",
    "run_id": "r1",
    "argv": ["/usr/bin/python3", "train.py"],
    "cwd": "/home/a/project",
    "user": "ubuntu",
    "env": {"LANG": "C"},
    "checkpoint_dir": "/home/a/ckpt",
    "data": ["/data"],
    "prepare": "true",
    "code": {
        "kind": "bundle",
        "sha256": "a" * 64,
        "size": "10",
        "unpacked": "10",
        "entries": "1",
        "root": "/home/a/project",
    },
}


def lookup(name: str) -> pwd.struct_passwd:
    """A user database of its own."""
    return pwd.struct_passwd((name, "x", USERS[name], 100, "", f"/home/{name}", "/bin/sh"))


def offered(spec: Any, name: Any = "job") -> Any:
    """What comes of a spec."""
    return admit({"name": name, "spec": spec}, "s3://b/p", ALLOWED, Path("/ckpt"), lookup)


def test_an_honest_spec_is_admitted() -> None:
    """With the user of this machine, the store it came from, and a checkpoint directory here."""
    user, body = offered(SPEC)
    assert (user.pw_uid, body.name, body.store) == (1000, "job", "s3://b/p")
    assert body.checkpoint_dir == "/ckpt/job"
    assert (body.argv, body.code) == (SPEC["argv"], SPEC["code"])
    assert (body.bundle, offered({**SPEC, "change": "new"})[1].change) == (None, None)


def test_a_user_may_have_another_name_here() -> None:
    """By an entry of the form theirs:ours in the configuration."""
    user, _ = offered({**SPEC, "user": "theirs"})
    assert user.pw_name == "ours"


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "root": ({"user": "root"}, "root", "ordinary user"),
    "root by another name": ({"user": "toor"}, "root", "ordinary user"),
    "root by a mapping": ({"user": "sly"}, "root", "ordinary user"),
    "other user": ({"user": "mallory"}, "as user mallory", "allowed_users"),
    "the right side of a mapping": ({"user": "ours"}, "as user ours", "allowed_users"),
    "a mapping as a name": ({"user": "theirs:ours"}, "as user", "allowed_users"),
    "no such user": ({"user": "gone"}, "no user gone", "useradd"),
    "number as user": ({"user": 0}, "names no user", ""),
    "argv a string": ({"argv": "rm -rf /"}, "argv", ""),
    "argv of numbers": ({"argv": [1]}, "argv", ""),
    "argv of lists": ({"argv": [["sh"]]}, "argv", ""),
    "empty argv": ({"argv": []}, "argv", ""),
    "no program": ({"argv": [""]}, "argv", ""),
    "NUL in argv": ({"argv": ["sh", "a\0b"]}, "argv", ""),
    "relative directory": ({"cwd": "project"}, "cwd", ""),
    "directory with parents": ({"cwd": "/a/../etc"}, "cwd", ""),
    "environment a list": ({"env": ["A=b"]}, "env", ""),
    "number in environment": ({"env": {"A": 1}}, "env", ""),
    "equals in a name": ({"env": {"LD_PRELOAD=/x": ""}}, "env", ""),
    "secret by a relative path": ({"env_file": "../../etc/shadow"}, "env_file", ""),
    "data a string": ({"data": "/data"}, "data", ""),
    "digest with a path": ({"code": {**SPEC["code"], "sha256": "../../x"}}, "code", ""),
    "10 GB bomb": ({"code": {**SPEC["code"], "unpacked": "10000000000"}}, "code", ""),
    "code of another kind": ({"code": {"kind": "svn"}}, "code", ""),
    "git that runs a command": (
        {"code": {"kind": "git", "url": "ext::sh -c id", "commit": "a" * 40, "root": "/p"}},
        "code",
        "",
    ),
    "git with an option": (
        {"code": {"kind": "git", "url": "--upload-pack=x", "commit": "a" * 40, "root": "/p"}},
        "code",
        "",
    ),
    "git with a password": (
        {"code": {"kind": "git", "url": "https://u:p@h/r", "commit": "a" * 40, "root": "/p"}},
        "code",
        "",
    ),
    "commit as an option": (
        {"code": {"kind": "git", "url": "https://h/r", "commit": "--help", "root": "/p"}},
        "code",
        "",
    ),
    "half a character": ({"prepare": "\ud800"}, "Unicode", ""),
    "no run": ({"run_id": None}, "run id", ""),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_forged_spec_is_refused_with_where_and_remedy(case: str) -> None:
    """Each in words, naming the document."""
    changes, says, remedy = WRONG[case]
    with pytest.raises(Refused) as caught:
        offered({**SPEC, **changes})
    error = caught.value
    assert says in error.what
    assert error.where.startswith("s3://b/p/job/spec.json")
    assert remedy in error.remedy
    assert error.remedy
    assert error.waits == (case == "no such user")


def test_a_password_is_not_repeated() -> None:
    """What is refused goes to a log that others read."""
    code = {"kind": "git", "url": "https://u:s3cr3t@h/r", "commit": "a" * 40, "root": "/p"}
    with pytest.raises(Refused) as caught:
        offered({**SPEC, "code": code})
    assert "s3cr3t" not in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["root", "/etc", "../..", "toor", "ubuntu", "/a", "x" * 300, "SIGKILL"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*sorted(SPEC), "signal", "interval", "store", "bundle", "env_file", "x"])


def _is_told(error: Refused) -> None:
    assert all((error.what, error.where, error.remedy))


@given(changes=st.dictionaries(FIELDS, JSON, max_size=4), name=st.just("job") | JSON)
def test_nothing_forged_becomes_a_job(changes: dict[str, Any], name: Any) -> None:
    """Whatever is changed: refused in words, or a job of an allowed user, made of plain strings."""
    try:
        user, body = offered({**SPEC, **changes}, name)
    except Refused as error:
        _is_told(error)
        return
    assert user.pw_uid in (1000, 1001)
    assert body.name == name
    assert body.argv
    assert all(isinstance(word, str) and "\0" not in word for word in body.argv)
    paths = [body.cwd, body.checkpoint_dir, body.env_file, *body.data]
    assert all(path is None or (path[0] == "/" and ".." not in path.split("/")) for path in paths)
    assert (body.store, body.bundle) == ("s3://b/p", None)
    assert all(isinstance(word, str) for pair in body.env.items() for word in pair)
