"""Forged jobs on their whole way: bytes in a store, found, judged, prepared; none would start.

What may be in a job that starts is said here a second time, in other words than the product's.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pwd
import shutil
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotwatchd.core.lease import Owner, Terms
from spotwatchd.core.retention import Retention
from spotwatchd.core.spec import make_spec
from spotwatchd.engine.identity import needs_of
from spotwatchd.engine.trust import Refused, admit, unreadable
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.discover import look
from spotwatchd.store.init import init_store
from spotwatchd.store.job_file import JobFile
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Patience
from spotwatchd.store.preparing import Prepared, prepare
from tests.shell.code.archives import archive, entry, tree

ALLOWED = ("ubuntu", "theirs:ours", "toor", "sly:toor")
USERS = {"ubuntu": 1000, "ours": 1001, "toor": 0, "root": 0, "mallory": 1002}
MAY_RUN = {"ubuntu": 1000, "theirs": 1001}
ROOT = "/home/a/project"
HONEST: dict[str, Any] = {
    "version": 1,
    "name": "job",
    "run_id": "r1",
    "argv": ["/bin/sh", f"{ROOT}/train.sh", "--lr", "0.1"],
    "cwd": ROOT,
    "user": "ubuntu",
    "env": {"LANG": "C", "PYTHONPATH": f"{ROOT}:/opt/lib"},
    "checkpoint_dir": "/home/a/ckpt",
    "data": ["/dev/null"],
}
SCRIPT = (entry("train.sh"), b"echo trained\n")
GOOD_ARCHIVE = archive(SCRIPT, (entry("lib/a.py"), b"1"), (entry("l", tarfile.SYMTYPE, "lib"), b""))


@dataclass(frozen=True)
class Forged:
    """What somebody put into the store.

    Attributes:
        changes: of the honest spec.
        body: the archive.
        declared: what the spec says of the archive, where that is not true.
        damage: position and byte that is written into the document, or None.
        raw: the document, instead of all that.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    body: bytes = GOOD_ARCHIVE
    declared: dict[str, str] = field(default_factory=dict)
    damage: tuple[int, int] | None = None
    raw: bytes | None = None

    @property
    def digest(self) -> str:
        """The true one."""
        return hashlib.sha256(self.body).hexdigest()

    def document(self) -> bytes:
        """As it lies in the store."""
        if self.raw is not None:
            return self.raw
        code = {
            "kind": "bundle",
            "sha256": self.digest,
            "size": str(len(self.body)),
            "unpacked": "1000",
            "entries": "6",
            "root": ROOT,
        }
        spec = {**HONEST, "code": {**code, **self.declared}, **self.changes}
        text = bytearray(json.dumps(spec).encode())
        if self.damage is not None:
            text[self.damage[0] % len(text)] = self.damage[1]
        return bytes(text)


# -- the way of a job through the product --------------------------------------------------------


def lookup(name: str) -> pwd.struct_passwd:
    """A user database of its own."""
    return pwd.struct_passwd((name, "x", USERS[name], 100, "", f"/home/{name}", "/bin/sh"))


class Place:
    """A store, a machine, and what lies beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store, self.state = root / "store", root / "machine" / "jobs" / "job"
        self.store.mkdir()
        (root / "x").write_bytes(b"outside")
        (root / "machine" / "x").parent.mkdir()
        (root / "machine" / "x").write_bytes(b"outside")
        init_store(f"file://{self.store}")
        self.backend = open_backend(f"file://{self.store}")
        self.outside = self._outside()

    def _outside(self) -> dict[str, bytes | str]:
        apart = ("store/job", "machine/jobs")
        return {path: what for path, what in tree(self.root).items() if not path.startswith(apart)}

    def put(self, forged: Forged) -> None:
        """Into the store, as somebody does who may write there."""
        for old in (self.store / "job", self.state):
            shutil.rmtree(old, ignore_errors=True)
        code = self.store / "job" / "code"
        code.mkdir(parents=True)
        self.state.mkdir(parents=True)
        (self.store / "job" / "spec.json.000000001").write_bytes(forged.document())
        names = {forged.digest, forged.declared.get("sha256", forged.digest)}
        for name in (name for name in names if "/" not in name):
            (code / f"{name}.tar.gz").write_bytes(forged.body)

    def way(self) -> tuple[pwd.struct_passwd, Prepared] | None:
        """What a machine does with what it finds. Raises SpotwatchError: what is reported."""
        printed = json.dumps(look(self.backend))  # by a process of its own
        for row in json.loads(printed):
            if "problem" in row:
                raise unreadable(row["name"], row["problem"])
            root = self.root / "machine" / "ckpt"
            user, body = admit(row, self.backend.url, ALLOWED, root, lookup)
            fields = {"name": body.name, "run_id": body.run_id, "argv": body.argv, "cwd": body.cwd}
            spec = make_spec({**fields, **needs_of(body)}, "the replicator's document")
            job = JobFile(
                name=body.name,
                checkpoint_dir=Path(body.checkpoint_dir),
                checkpoint_glob=body.checkpoint_glob,
                store=self.backend.url,
                socket="",
                runtime_dir=self.state,
                owner=Owner("m", "b", "h"),
                spec=spec,
                terms=Terms.of(30.0),
                retention=Retention(3, 0),
                grace=60.0,
            )
            return user, prepare(job, self.backend, body.env, Patience(), here=False)
        return None

    def is_untouched(self) -> bool:
        """Whether all that lies beside the store and the job's own directory is as it was."""
        return self._outside() == self.outside


# -- what may start, in other words --------------------------------------------------------------


def _clean(path: Any) -> bool:
    return isinstance(path, str) and path[:1] == "/" and ".." not in path.split("/")


def check_started(forged: Forged, user: pwd.struct_passwd, ready: Prepared, state: Path) -> None:
    """Every promise about a job that would start, checked against the bytes in the store."""
    spec = json.loads(forged.document())
    assert spec["version"] == 1
    assert spec["name"] == "job"
    assert MAY_RUN.get(spec["user"]) == user.pw_uid
    assert all(isinstance(word, str) and "\0" not in word for word in spec["argv"])
    assert all(isinstance(each, str) for pair in (spec.get("env") or {}).items() for each in pair)
    paths = [spec["cwd"], *(spec.get("data") or [])]
    assert all(map(_clean, paths))
    code = spec.get("code")
    home = None
    if code is not None:
        assert code["sha256"] == forged.digest, "the archive is not the one that the spec names"
        assert int(code["size"]) == len(forged.body)
        home = state / "code" / forged.digest
        check_unpacked(home, int(code["unpacked"]), int(code["entries"]))
    assert len(ready.argv) == len(spec["argv"])
    for was, now in zip([spec["cwd"], *spec["argv"]], [ready.cwd, *ready.argv], strict=True):
        moved = home is not None and f"{was}/".startswith(f"{code['root'].rstrip('/')}/")
        assert now == was or (moved and f"{now}/".startswith(f"{home}/"))


def check_unpacked(home: Path, most: int, entries: int) -> None:
    """Plain files, directories and links that stay inside; no more than was declared."""
    found = list(home.rglob("*"))
    size = 0
    for path in found:
        real = os.path.realpath(path)
        assert real == str(home) or real.startswith(f"{home}/"), f"{path} leads to {real}"
        assert path.is_symlink() or path.is_dir() or path.is_file()
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_nlink == 1
            assert not path.stat().st_mode & 0o7000
            size += path.stat().st_size
    assert size <= most
    assert sum(path.is_symlink() or path.is_file() for path in found) <= entries


# -- a thousand forgeries ------------------------------------------------------------------------

PATHS = ["/", "/etc", "../..", "/a/../etc", "/home/a/project/../..", "", "/a\n", "a", "/x" * 3000]
NASTY: dict[str, list[Any]] = {
    "version": [0, 2, 10**30, "1", None, True, 1.0],
    "name": ["jobs", "../job", "", "job/..", 1, None],
    "run_id": ["", "../../x", 5, None, "r" * 200, "r2"],
    "argv": [
        *(None, [], "rm -rf /", [1], [["sh"]], [""], ["sh", "a\0b"], {"0": "sh"}, [None]),
        *([f"{ROOT}/../../bin/sh"], ["/bin/sh", f"{ROOT}/../x"], ["/bin/sh"], ["l/../train.sh"]),
    ],
    "cwd": [*PATHS, f"{ROOT}/lib", f"{ROOT}/l", f"{ROOT}/new", 7],
    "user": [
        *("root", "toor", "sly", "ours", "mallory", "theirs", "theirs:ours", "", 0, None, ["root"]),
        *("root\0", "ubuntu ", "Ubuntu", "ubuntu\n", "u" * 100, "\ud800", "ubuntu"),
    ],
    "env": [
        ["A=b"],
        {"A": 1},
        {"LD_PRELOAD=/x": ""},
        {"": "x"},
        {"A": "a\0"},
        None,
        {"A": "\ud800"},
    ],
    "checkpoint_dir": [*PATHS, None, 3],
    "checkpoint_glob": ["../*", "/etc/*", "*.pt", 3],
    "signal": ["SIGKILL", "SIGUSR1", 9],
    "interval": [-1, 1e999, float("nan"), "1", 10.0],
    "env_file": [*PATHS, "/etc/shadow", 3, ["/x"]],
    "env_command": [3, [], "\0", {}],
    "data": ["/data", [3], ["../x"], ["/nowhere"], [[]], {"/x": 1}],
    "prepare": [3, ["sh"], "\ud800", "\0"],
    "python": [3, {"executable": 3}, {"executable": "/nowhere/python"}, {"A": "b"}],
    "code": [
        *(3, [], {}, {"kind": "svn"}, None, {"kind": "bundle", "root": ROOT}),
        *(
            {"kind": "git", "url": url, "commit": "a" * 40, "root": ROOT}
            for url in ("ext::sh -c id", "--upload-pack=x", "https://u:p@h/r", "/etc", "fd::3")
        ),
        {"kind": "git", "url": "https://h/r", "commit": "--help", "root": ROOT},
    ],
    "store": ["file:///etc", "s3://elsewhere/x"],
    "bundle": ["/etc/shadow", "../x"],
    "change": ["new"],
    "revision": [-1, "2", 10**40, 2],
    "created_at": [3, "\ud800", "x" * 10_000],
    "unknown": [{"deep": [[[]]]}],
}
CHANGES = st.lists(
    st.sampled_from(sorted(NASTY)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(NASTY[name]))
    ),
    max_size=2,
).map(dict)
NUMBERS = st.sampled_from(["0", "1", "-1", "6", "1000", "10000000000", "1e3", "", "٣", "9" * 400])
DIGESTS = st.sampled_from(["0" * 64, "../../x", "A" * 64, "", GOOD_ARCHIVE.hex()[:64]])
DECLARED = st.fixed_dictionaries(
    {},
    optional={
        "sha256": DIGESTS,
        "size": NUMBERS,
        "unpacked": NUMBERS,
        "entries": NUMBERS,
        "root": st.sampled_from([*PATHS[:7], f"{ROOT}/"]),
        "kind": st.sampled_from(["bundle", "git", "Bundle"]),
    },
)
PARTS = st.sampled_from(["a", "b", "lib", "..", ".", "", "/", "~", "a" * 256, "\n", "train.sh"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = NAMES | st.sampled_from(["/etc/passwd", "..", "../..", "a/../..", ".", "lib/../../x"])
KINDS = st.sampled_from(
    [
        *(tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE),
        *(tarfile.FIFOTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, b"S", b"Z"),
    ]
)
SIZES = st.none() | st.sampled_from([10_000_000_000, 2000, 0])
MEMBERS = st.lists(st.tuples(NAMES, KINDS, TARGETS, st.binary(max_size=30), SIZES), max_size=5)


def packed(members: list[tuple[str, bytes, str, bytes, int | None]], cut: int) -> bytes:
    """An archive of them beside an honest script; sizes in headers may lie."""
    made = []
    for name, kind, target, data, lie in members:
        header = entry(name, kind, target)
        header.mode = 0o7777
        made.append((header, data, lie))
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for header, data, lie in [(*SCRIPT, None), *made]:
            header.size = len(data) if header.isreg() else 0
            if lie is not None and header.isreg():
                header.size = lie
                raw.write(header.tobuf(format=tarfile.GNU_FORMAT))
                break  # what follows is read as its contents
            tar.addfile(header, io.BytesIO(data) if header.isreg() else None)
    whole = archive_of(raw.getvalue())
    return whole[: len(whole) - cut] if cut else whole


def archive_of(raw: bytes) -> bytes:
    """Gzipped, always the same."""
    return gzip.compress(raw, compresslevel=1, mtime=0)


_BEGINNING = b'{"version": 1, "name": "job", "run_id": "r", "argv": ["sh"], "x": '
NO_SPECS = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "no name": b'{"version": 1}',
    "another name": _BEGINNING.replace(b"job", b"jobs") + b"1}",
    "a newer version": b'{"version": 1, "version": 2, "name": "job", "run_id": "r"}',
    "no text": b"\xff\xfe",
    "a command in one word": _BEGINNING.replace(b'["sh"]', b'"sh"') + b"1}",
    "deep": b"[" * 100_000,
    "as deep as can just be read": _BEGINNING + b'{"a":' * 900 + b"1" + b"}" * 901,
    "deeper than ours": _BEGINNING + b"[" * 60 + b"]" * 60 + b"}",
    "a number of 5,000 digits": _BEGINNING + b"9" * 5000 + b"}",
    "large": b" " * (17 << 20),
}
FORGED = st.one_of(
    st.builds(Forged, changes=CHANGES, declared=DECLARED),
    st.builds(Forged, changes=CHANGES),
    st.builds(Forged, body=st.builds(packed, MEMBERS, st.sampled_from([0, 0, 0, 1, 9, 200]))),
    st.builds(Forged, damage=st.tuples(st.integers(0, 5000), st.integers(0, 255))),
    st.builds(Forged, raw=st.sampled_from(sorted(NO_SPECS.values(), key=len)[:-1])),
)


def one_of_them(place: Place, forged: Forged) -> str:
    """Put it into the store, let a machine find it, check every promise. What came of it."""
    place.put(forged)
    try:
        started = place.way()
    except SpotwatchError as error:
        _is_told(error)
        assert place.is_untouched()
        assert _copies(place) <= {forged.digest}
        return "refused" if isinstance(error, Refused) else "blocked"
    assert place.is_untouched()
    assert started is not None, "a job in the store was not found"
    check_started(forged, *started, place.state)
    return "started"


def _is_told(error: SpotwatchError) -> None:
    assert all((error.what, error.where))


def _copies(place: Place) -> set[str]:
    """What is left of code on the machine: whole and verified, or nothing."""
    code = place.state / "code"
    return {path.name for path in code.iterdir()} if code.exists() else set()


# Each link stays inside where it is written; together they do not.
CHAIN = archive(
    SCRIPT,
    (entry("a/b/c/up", tarfile.SYMTYPE, "../../.."), b""),
    (entry("away", tarfile.SYMTYPE, "a/b/c/up/.."), b""),
)


def test_each_forgery_by_itself(tmp_path: Path) -> None:
    """Every one that is thought of here, where nothing else is wrong with the job."""
    place = Place(tmp_path)
    alone = [Forged(changes={name: value}) for name in NASTY for value in NASTY[name]]
    for forged in (*alone, Forged(body=CHAIN), Forged(declared={"sha256": "0" * 64})):
        one_of_them(place, forged)
    assert one_of_them(place, Forged(body=CHAIN)) == "blocked"


def test_a_thousand_forged_jobs_never_start(tmp_path: Path) -> None:
    """Reported in words and without a trace outside; what starts is what the store really says."""
    place, came_of_it = Place(tmp_path), Counter[str]()

    @settings(max_examples=max(1000, settings().max_examples), deadline=None)
    @given(forged=FORGED)
    def each(forged: Forged) -> None:
        came_of_it[one_of_them(place, forged)] += 1

    each()
    assert sum(came_of_it.values()) >= 1000
    assert min(came_of_it["started"], came_of_it["refused"], came_of_it["blocked"]) > 0


@pytest.mark.parametrize("changes", [{}, {"user": "theirs"}, {"code": None, "argv": ["/bin/sh"]}])
def test_an_honest_job_goes_the_same_way_and_starts(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Or the thousand would prove nothing."""
    place = Place(tmp_path)
    cwd = {"cwd": "/usr"} if "code" in changes else {}
    assert one_of_them(place, Forged(changes={**changes, **cwd})) == "started"


@pytest.mark.parametrize("case", sorted(NO_SPECS))
def test_what_is_no_spec_is_reported(tmp_path: Path, case: str) -> None:
    """Not passed over in silence, and the look at the other jobs goes on."""
    place = Place(tmp_path)
    place.put(Forged(raw=NO_SPECS[case]))
    (row,) = look(place.backend)
    assert row["name"] == "job"
    assert all((row["problem"]["what"], row["problem"]["where"]))
    assert row["problem"]["again"] is False


@pytest.mark.parametrize(
    ("planted", "again"), [("pipe", False), ("directory", False), ("link", True)]
)
def test_what_is_no_file_holds_nobody_up(tmp_path: Path, planted: str, again: bool) -> None:
    """A pipe in place of a document would be read for ever."""
    place = Place(tmp_path)
    place.put(Forged())
    path = place.store / "job" / "spec.json.000000002"
    if planted == "pipe":
        os.mkfifo(path)
    elif planted == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    (row,) = look(place.backend)
    assert row["problem"]["what"]
    assert row["problem"]["again"] is again
