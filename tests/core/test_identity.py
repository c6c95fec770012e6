"""One name, one job: which specs are the same, and which of two is run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spotwatchd.core import fence
from spotwatchd.core.head import Head, Listed, parse_head
from spotwatchd.core.identity import agreed, differences, run_id_of
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.intent import want
from spotwatchd.core.lease import Tenure
from spotwatchd.core.retention import Retention, candidates, unlisted
from spotwatchd.core.spec import Spec
from spotwatchd.core.wanted import Wanted
from spotwatchd.errors import JobError


def spec(*argv: str, run_id: str = "r1", user: str = "ann", revision: int = 1) -> Spec:
    """A spec of the job."""
    fields: dict[str, Any] = {"argv": list(argv), "user": user, "checkpoint_dir": "/c"}
    return Spec("job", run_id, {**fields, "revision": revision})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (["/a/python", "t.py", "--lr", "0.1"], ["/b/python", "t.py", "--lr", "0.1"], []),
        (["p", "--lr", "0.1", "x"], ["p", "--lr", "0.2", "x"], ["--lr 0.1 -> --lr 0.2"]),
        (["p", "--lr=0.1"], ["p", "--lr=0.2"], ["--lr=0.1 -> nothing", "nothing -> --lr=0.2"]),
        (["p"], ["p", "--amp"], ["nothing -> --amp"]),
        (["p", "a", "b"], ["p", "b", "a"], ["the order of the arguments"]),
        (["p"], ["q"], ["p -> q"]),
        (["p", ""], ["p", "x"], ["'' -> nothing", "nothing -> x"]),
    ],
)
def test_what_differs_is_said(old: list[str], new: list[str], said: list[str]) -> None:
    """Options with their values, and no path that depends on the machine."""
    assert differences({"argv": old}, {"argv": new}) == said


def test_values_of_variables_are_not_said() -> None:
    """They may be secrets; those that a machine has of its own do not count."""
    old = {"env": {"PATH": "/a", "LR": "0.1", "CUDA_VISIBLE_DEVICES": "0"}}
    new = {"env": {"PATH": "/b", "LR": "hunter2", "CUDA_VISIBLE_DEVICES": "1"}}
    assert differences(old, new) == ["the variable LR"]


GIT = {"kind": "git", "url": "https://h/r", "commit": "a" * 40, "root": "/home/a"}
BUNDLE = {"kind": "bundle", "sha256": "b" * 64, "size": "9", "unpacked": "9", "entries": "1"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"code": GIT}, {"code": {**GIT, "root": "/srv", "url": "ssh://git@h/r"}}, []),
        (
            {"code": GIT},
            {"code": {**GIT, "commit": "c" * 40}},
            ["code git aaaaaaaaaaaa -> git cccccccccccc"],
        ),
        ({}, {"code": BUNDLE}, ["code none -> bundle bbbbbbbbbbbb"]),
        ({"code": BUNDLE}, {"code": GIT}, ["code bundle bbbbbbbbbbbb -> git aaaaaaaaaaaa"]),
        ({"code": 7}, {"code": None}, []),
        ({"python": {"version": "3.11"}}, {"python": {"version": "3.12"}}, []),
        ({"env_command": "vault"}, {"env_command": "sops"}, ["the env_command"]),
        ({}, {"prepare": "pip install x"}, ["the prepare"]),
        ({"env_file": "/s/a"}, {"env_file": "/s/b"}, ["env_file /s/a -> /s/b"]),
        ({"cwd": "/a", "env_file": "/a/.e"}, {"cwd": "/b", "env_file": "/b/.e"}, []),
        ({"cwd": "/", "env_file": "/e"}, {"cwd": "/b", "env_file": "/e"}, []),
        ({"data": ["/x", "/y"]}, {"data": ["/y", "/x"]}, []),
        ({"data": ["/x"]}, {"data": []}, ["data /x -> nothing"]),
        ({"data": None, "env": ["no"]}, {"data": 7}, ["data nothing -> 7"]),
    ],
)
def test_what_a_job_needs_is_part_of_it(
    old: dict[str, Any], new: dict[str, Any], said: list[str]
) -> None:
    """A digest, a commit, a path or a command is; facts of the machine that made it are not."""
    argv = {"argv": ["p"]}
    assert differences({**argv, **old}, {**argv, **new}) == said


def test_a_newer_spec_is_followed_where_it_may_be() -> None:
    """A machine that was off runs what the store says, with its own directories, or nothing."""
    stored = spec("p", "--lr", "0.2", revision=2)
    mine = spec("p", "--lr", "0.1")
    followed = agreed(mine, stored, follow=True)
    assert followed.fields["argv"] == ["p", "--lr", "0.2"]
    with pytest.raises(JobError, match="changed on another machine"):
        agreed(mine, stored, follow=False)


@pytest.mark.parametrize("revision", [0, 1])
def test_a_changed_spec_is_never_taken_silently(revision: int) -> None:
    """Not compared yet, or registered at the same time: refused, whoever came second."""
    mine = spec("p", "--lr", "0.2", revision=revision)
    with pytest.raises(JobError, match=r"--lr 0\.1 -> --lr 0\.2"):
        agreed(mine, spec("p", "--lr", "0.1"), follow=True)
    newer = spec("p", "--lr", "0.2", revision=2)
    assert agreed(newer, spec("p", "--lr", "0.1"), follow=False) is newer


def test_somebody_elses_name_is_refused() -> None:
    """Two users, one name: whatever the revision says."""
    with pytest.raises(JobError, match="belongs to the user ann"):
        agreed(spec("p", user="bob", revision=9), spec("p"), follow=True)


def test_a_run_is_replaced_once() -> None:
    """The new run takes the place of the one it was said about, of no later one."""
    assert run_id_of(spec("p", run_id="r2"), spec("p", run_id="r1"), "r1") == "r2"
    assert run_id_of(spec("p", run_id="r2"), spec("p", run_id="r3"), "r1") == "r3"


def test_wishes_and_ends() -> None:
    """Stopped until started; a start undoes the end it was said about and no other."""
    head = Head("job", "r", 4, state="running")
    stopped = want(head, Wanted("stopped", 0, "a"))
    assert stopped.halted == "stopped"
    again = want(stopped, Wanted("running", 0, "b"))
    assert again.halted == ""
    assert replace(again, state="stopped").halted == "", "the owner obeyed the older wish"
    assert replace(again, state="finished").halted == "finished"
    assert replace(again, state="stopped", generation=5).halted == "stopped"
    assert want(head, Wanted("running", 0, "c")) is head
    assert parse_head(again.encode(), "job", "head") == again


@pytest.mark.parametrize("state", ["finished", "crashed"])
def test_what_is_over_is_not_stopped(state: str) -> None:
    """Nothing is to be stopped; a start of it is said about that end."""
    head = Head("job", "r", 4, state=state)
    with pytest.raises(JobError, match=f"is {state} already"):
        want(head, Wanted("stopped", 0, "a"))
    assert want(head, Wanted("running", 0, "a")).halted == ""


def test_what_is_being_removed_is_not_started() -> None:
    """Only a removal follows a removal."""
    head = want(Head("job", "r", 4), Wanted("removed", 0, "a"))
    with pytest.raises(JobError, match="being removed"):
        want(head, Wanted("running", 0, "b"))
    assert want(head, Wanted("removed", 0, "c")).halted == "stopped"


def test_another_run_begins_at_nothing_and_keeps_the_old_one_for_now() -> None:
    """Old checkpoints are neither resumed from nor swept, until retention has newer ones."""
    old = tuple(Listed(CheckpointId(1, number, 10 * number), 1, "", "") for number in (1, 2))
    head = Head("job", "r1", 1, "t1", crashes=2, checkpoints=old)
    mine = Tenure(2, "t2")
    begun = fence.claim(head, mine, "job", "r2", replaces="r1")
    assert (begun.run_id, begun.checkpoints, begun.retired) == ("r2", (), old)
    assert begun.crashes == 0
    assert candidates(begun) == []
    assert unlisted([each.id for each in old], begun, in_progress=frozenset()) == set()
    assert parse_head(begun.encode(), "job", "head") == begun
    for number, left in ((1, old[1:]), (2, ())):
        entry = Listed(CheckpointId(2, number, number), 1, "", "")
        begun = fence.commit(begun, mine, fence.Addition(entry, None, Retention(last=2)))
        assert begun.retired == left
        assert begun.checkpoints[-1] == entry
    other = fence.claim(begun, Tenure(3, "t3"), "job", "r9", replaces="r1")
    assert other.run_id == "r2", "what was to be replaced is replaced already"
    assert other.checkpoints == begun.checkpoints
