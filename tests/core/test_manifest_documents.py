"""The documents in a store: what is written is read back, and garbage is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core.head import Head, Listed, Quarantined, parse_head
from spotwatchd.core.ids import CheckpointId, is_job_name
from spotwatchd.core.lease import Lease, Owner, parse_lease
from spotwatchd.core.manifest import NEWEST_VERSION, Manifest, StoredFile, is_inside, parse_manifest
from spotwatchd.core.spec import make_spec, parse_spec
from spotwatchd.errors import Damaged, StoreDenied

ID = CheckpointId(3, 7, 40)
LEASE = Lease("job", Owner("i-a", "boot", "host"), 3, 30.0, "n1", held=True, tenure="t1")
HEAD = Head(
    job="job",
    run_id="run",
    generation=3,
    tenure="t1",
    attempts=2,
    checkpoints=(Listed(ID, 10, "2026-11-21T00:00:00.000Z", "notice"),),
    quarantine=(Quarantined(CheckpointId(2, 1, 20), "bad", "then"),),
    interruption={"machine": "i-a", "more": [1, 2]},
    written_by="n2",
)
MANIFEST = Manifest("job", "run", ID, "notice", "now", (StoredFile("a/b.pt", 10, 0xFEED),))

Parser = Callable[[bytes], object]
PARSERS: dict[str, tuple[bytes, Parser]] = {
    "lease": (LEASE.encode(), lambda body: parse_lease(body, "job", "lease.json")),
    "head": (HEAD.encode(), lambda body: parse_head(body, "job", "head.json")),
    "manifest": (MANIFEST.encode(), lambda body: parse_manifest(body, "job", ID, "MANIFEST.json")),
    "spec": (
        make_spec({"name": "job", "run_id": "r", "argv": ["x"]}, "spec").encode(),
        lambda body: parse_spec(body, "job", "spec.json"),
    ),
}


@pytest.fixture(params=sorted(PARSERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of document in turn."""
    return str(request.param)


def changed(kind: str, **fields: Any) -> bytes:
    """The good document of ``kind`` with some fields replaced (None removes nothing)."""
    return json.dumps({**json.loads(PARSERS[kind][0]), **fields}).encode()


def test_what_is_written_is_read_back() -> None:
    """Each document survives its own encoding."""
    assert parse_lease(LEASE.encode(), "job", "") == LEASE
    assert parse_head(HEAD.encode(), "job", "") == HEAD
    assert parse_manifest(MANIFEST.encode(), "job", ID, "") == MANIFEST


def test_a_higher_version_is_refused_by_name(kind: str) -> None:
    """It is not garbage, so it must not be repaired."""
    newest = NEWEST_VERSION if kind == "manifest" else 1
    with pytest.raises(StoreDenied, match=f"version {newest + 1}.*up to {newest}"):
        PARSERS[kind][1](changed(kind, version=newest + 1))


OLDER = CheckpointId(2, 9, 30)
SHARING = replace(MANIFEST, files=(*MANIFEST.files, StoredFile("frozen", 5, 1, OLDER)))


def test_a_manifest_says_which_checkpoint_holds_a_file_that_had_not_changed() -> None:
    """Read back as written, by readers that know of it: others refuse the version."""
    assert parse_manifest(SHARING.encode(), "job", ID, "") == SHARING
    assert [SHARING.holder(entry) for entry in SHARING.files] == [ID, OLDER]
    assert SHARING.references == {(OLDER, "frozen")}
    versions = [json.loads(each.encode())["version"] for each in (MANIFEST, SHARING)]
    assert versions == [1, 2]


@pytest.mark.parametrize("held_by", [str(ID), str(CheckpointId(3, 8, 0)), "frozen", "", 7])
def test_a_file_can_only_be_held_by_an_earlier_checkpoint(held_by: object) -> None:
    """So references never go round in a circle."""
    entry = {"path": "frozen", "size": 1, "crc64nvme": "0" * 16, "in": held_by}
    with pytest.raises(Damaged, match="in: expected"):
        PARSERS["manifest"][1](changed("manifest", version=2, files=[entry]))


def test_unknown_fields_do_no_harm(kind: str) -> None:
    """A later version of the same format may add fields."""
    PARSERS[kind][1](changed(kind, flavour="vanilla"))


def test_unknown_fields_of_head_are_written_again() -> None:
    """A swap by this version loses nothing that another wrote."""
    head = parse_head(changed("head", flavour="vanilla"), "job", "")
    assert json.loads(replace(head, attempts=9).encode())["flavour"] == "vanilla"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{",
        b"{}",
        b'{"version": true}',
        b'{"version": 0}',
        b"[" * 100_000,
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_garbage_is_damaged_and_says_where(kind: str, body: bytes) -> None:
    """Whatever the bytes are, the answer is one kind of error with a place."""
    with pytest.raises((Damaged, StoreDenied)) as error:
        PARSERS[kind][1](body)
    assert error.value.where


@given(st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(repr).map(str.encode))
def test_no_bytes_break_a_parser(body: bytes) -> None:
    """Nothing but Damaged or StoreDenied ever comes out."""
    for _, parse in PARSERS.values():
        with pytest.raises((Damaged, StoreDenied)):
            parse(body)


WRONG: list[Any] = [None, True, -1, 1.5, "", "x", [], [None], {}, [{}]]


@given(st.data())
def test_no_wrong_field_breaks_a_parser(data: st.DataObject) -> None:
    """Any field replaced by anything: read, or refused as Damaged or StoreDenied."""
    kind = data.draw(st.sampled_from(sorted(PARSERS)))
    name = data.draw(st.sampled_from(sorted(json.loads(PARSERS[kind][0]))))
    body = changed(kind, **{name: data.draw(st.sampled_from(WRONG))})
    try:
        PARSERS[kind][1](body)
    except (Damaged, StoreDenied) as error:
        assert error.where  # noqa: PT017 - most values are refused, a few are fine


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\0b", "../x"),
        *("MANIFEST.json", ".removed", "MANIFEST.json/x", "x" * 256, "\ud800", ".spotwatch-tmp-1"),
    ],
)
def test_paths_stay_inside(path: str) -> None:
    """A manifest cannot name a file outside its own directory, nor hide in the store's names."""
    assert not is_inside(path)
    entry = {"path": path, "size": 1, "crc64nvme": "0" * 16}
    with pytest.raises(Damaged, match="path"):
        PARSERS["manifest"][1](changed("manifest", files=[entry]))


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b", "a/b/c"]])
def test_a_path_is_one_thing(paths: list[str]) -> None:
    """No file twice, and no file that is a directory too."""
    files = [{"path": path, "size": 1, "crc64nvme": "0" * 16} for path in paths]
    with pytest.raises(Damaged):
        PARSERS["manifest"][1](changed("manifest", files=files))


@pytest.mark.parametrize("crc", ["", "xyz", "0" * 15, "0" * 17, "FEED" * 4, 7])
def test_checksums_are_16_digits(crc: object) -> None:
    """Anything else is no checksum."""
    entry = {"path": "a", "size": 1, "crc64nvme": crc}
    with pytest.raises(Damaged):
        PARSERS["manifest"][1](changed("manifest", files=[entry]))


def test_a_manifest_is_of_its_checkpoint() -> None:
    """One that was copied to another key is damaged there."""
    with pytest.raises(Damaged):
        parse_manifest(MANIFEST.encode(), "job", CheckpointId(3, 8, 40), "")
    with pytest.raises(Damaged):
        parse_manifest(MANIFEST.encode(), "other", ID, "")


def test_a_head_lists_each_checkpoint_once_and_none_of_the_future() -> None:
    """A head that lists a higher generation than its own was not written by the protocol."""
    entry = json.loads(HEAD.encode())["checkpoints"][0]
    with pytest.raises(Damaged):
        parse_head(changed("head", checkpoints=[entry, entry]), "job", "")
    with pytest.raises(Damaged):
        parse_head(changed("head", generation=2), "job", "")


@pytest.mark.parametrize("seconds", [0, -1, 1e9, "30", True, float("nan"), float("inf")])
def test_a_lease_lasts_a_sane_time(seconds: object) -> None:
    """A lease that claims to last for years would park the job."""
    with pytest.raises(Damaged):
        parse_lease(changed("lease", seconds=seconds), "job", "")


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**13))
def test_ids_are_read_back(generation: int, sequence: int, step: int) -> None:
    """And sort as text within the widths that are in use."""
    checkpoint = CheckpointId(generation, sequence, step)
    assert CheckpointId.find(str(checkpoint)) == checkpoint


@pytest.mark.parametrize("text", ["", "1-2-3", "00000001-000001", "x" * 28, "\u0661" * 28])
def test_other_names_are_no_ids(text: str) -> None:
    """What somebody else put there is left alone."""
    assert CheckpointId.find(text) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a" * 65, "a b", "\u00e9"])
def test_job_names(name: str) -> None:
    """A name that could not be a key or a file name is refused."""
    assert not is_job_name(name)
