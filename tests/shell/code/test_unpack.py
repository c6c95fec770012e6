"""Bundles from a store: honest ones are unpacked, forged ones are refused and write nothing."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotwatchd.core.code import Bundle
from spotwatchd.errors import Damaged
from spotwatchd.store.code import provide, publish
from spotwatchd.store.init import init_store
from spotwatchd.store.lacking import Lacking
from spotwatchd.store.layout import code_key
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Patience
from spotwatchd.store.unpack import Bounds, unpack
from tests.shell.code.archives import archive, described, entry, tree

BOUNDS = Bounds(10_000, 100)


def unpacked(root: Path, body: bytes, bounds: Bounds = BOUNDS) -> Path:
    """Unpack ``body`` below ``root``."""
    packed = root / "packed"
    packed.write_bytes(body)
    unpack(packed, root / "code", bounds)
    return root / "code"


def test_files_directories_and_links_inside_arrive(tmp_path: Path) -> None:
    """With their contents, the right to execute, and nothing else of their modes."""
    script = entry("bin/run.sh")
    script.mode = 0o4777
    body = archive(
        (entry("./a.txt"), b"one"),
        (entry("deep", tarfile.DIRTYPE), b""),
        (entry("deep/er/b.txt"), b""),
        (script, b"#!/bin/sh\n"),
        (entry("deep/link", tarfile.SYMTYPE, "../a.txt"), b""),
    )
    code = unpacked(tmp_path, body)
    assert tree(code) == {
        "a.txt": b"one",
        "bin": "",
        "bin/run.sh": b"#!/bin/sh\n",
        "deep": "",
        "deep/er": "",
        "deep/er/b.txt": b"",
        "deep/link": "../a.txt",
    }
    assert (code / "bin" / "run.sh").stat().st_mode & 0o7777 == 0o755 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sparse() -> bytes:
    header = entry("sparse", tarfile.GNUTYPE_SPARSE)
    return archive((header, b""))


def _long_header() -> bytes:
    """An extended header that says it has 10 GB: reading it in one piece would take them all."""
    header = entry("pax", tarfile.XHDTYPE)
    header.size = 10_000_000_000
    raw = header.tobuf(format=tarfile.GNU_FORMAT) + bytes(1 << 26)
    return gzip.compress(raw)


def _long_comment() -> bytes:
    """Far more in the headers than in the files."""
    header = entry("a")
    header.pax_headers = {"comment": "x" * 3_000_000}
    return archive((header, b"1"))


def _bomb() -> bytes:
    """10 GB of zeros announced, a few megabytes there."""
    header = entry("zeros")
    header.size = 10_000_000_000
    return gzip.compress(header.tobuf(format=tarfile.GNU_FORMAT) + bytes(1 << 24))


FORGED = {
    "absolute": archive((entry("/etc/x"), b"1")),
    "parent": archive((entry("../x"), b"1")),
    "parent inside": archive((entry("a/../../x"), b"1")),
    "hard link": archive((entry("a"), b"1"), (entry("b", tarfile.LNKTYPE, "a"), b"")),
    "hard link away": archive((entry("b", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "absolute link": archive((entry("b", tarfile.SYMTYPE, "/etc"), b"")),
    "link away": archive((entry("a/b", tarfile.SYMTYPE, "../../x"), b"")),
    "link by a link": archive(
        (entry("a/b/c/up", tarfile.SYMTYPE, "../../.."), b""),
        (entry("away", tarfile.SYMTYPE, "a/b/c/up/.."), b""),
    ),
    "through a link": archive((entry("a", tarfile.SYMTYPE, "d"), b""), (entry("a/x"), b"1")),
    "under a link": archive((entry("a/x"), b"1"), (entry("a", tarfile.SYMTYPE, "d"), b"")),
    "twice": archive((entry("a"), b"1"), (entry("a"), b"2")),
    "file as directory": archive((entry("a"), b"1"), (entry("a/b"), b"2")),
    "device": archive((entry("null", tarfile.CHRTYPE), b"")),
    "pipe": archive((entry("pipe", tarfile.FIFOTYPE), b"")),
    "sparse": _sparse(),
    "control characters": archive((entry("a\nb"), b"1")),
    "long name": archive((entry("a" * 300), b"1")),
    "more entries": archive(*((entry(f"{n}"), b"") for n in range(101))),
    "more bytes": archive((entry("a"), bytes(10_001))),
    "bomb": _bomb(),
    "long header": _long_header(),
    "long comment": _long_comment(),
    "cut": archive((entry("a"), os.urandom(5000)))[:3000],
    "not gzip": b"no archive",
    "not tar": gzip.compress(b"no archive" * 1000),
}


@pytest.mark.parametrize("case", sorted(FORGED))
def test_a_forged_archive_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    """Damaged, no directory with the code, nothing beside it."""
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(Damaged):
        unpacked(inner, FORGED[case])
    assert tree(tmp_path) == {"inner": "", "inner/packed": FORGED[case]}


def test_a_bomb_costs_no_more_than_it_was_allowed_to(tmp_path: Path) -> None:
    """What it may become is checked before the bytes are written."""
    with pytest.raises(Damaged, match="more than its spec declares"):
        unpacked(tmp_path, _bomb(), Bounds(1 << 20, 10))


def test_a_long_header_is_not_read_into_memory(tmp_path: Path) -> None:
    """Refused by what it says, before 64 MB of it are unpacked."""
    body = _long_header()
    tracemalloc.start()
    try:
        with pytest.raises(Damaged):
            unpacked(tmp_path, body, Bounds(1 << 40, 10))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 24


# -- anything at all -------------------------------------------------------------------------

PARTS = st.sampled_from(
    ["a", "b", "..", ".", "", "/", "~", "a" * 256, "\x00", "\n", "ü", "-rf", "C:"]
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(NAMES, st.sampled_from(["/etc/passwd", "..", "../..", "a/..", "a/../..", "."]))
KINDS = st.sampled_from(
    [tarfile.REGTYPE] * 4
    + [tarfile.SYMTYPE] * 4
    + [
        tarfile.DIRTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"S",
        b"Z",
    ]
)
MEMBERS = st.lists(st.tuples(NAMES, KINDS, TARGETS, st.binary(max_size=40)), max_size=8)


@given(members=MEMBERS, cut=st.integers(0, 400), flip=st.booleans(), declared=st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_nothing_is_ever_written_outside(
    members: list[tuple[str, bytes, str, bytes]], cut: int, flip: bool, declared: int
) -> None:
    """A thousand archives: refused without a trace, or all of it, and every link, is inside."""
    body = _made(members)
    if flip:
        body = body[: max(1, len(body) - cut)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "inner").mkdir()
        (root / "x").write_bytes(b"outside")
        try:
            code = unpacked(root / "inner", body, Bounds(declared, 6))
        except Damaged:
            code = None
        shutil.rmtree(root / "inner" / "code", ignore_errors=True) if code is None else _inside(
            code
        )
        left = {
            path: what for path, what in tree(root).items() if not path.startswith("inner/code")
        }
        assert left == {"inner": "", "inner/packed": body, "x": b"outside"}


def _made(members: list[tuple[str, bytes, str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, target, data in members:
            header = entry(name, kind, target)
            header.size = len(data) if header.isreg() else 0
            tar.addfile(header, io.BytesIO(data) if header.isreg() else None)
    return gzip.compress(packed.getvalue(), mtime=0)


def _inside(code: Path) -> None:
    size = 0
    for path in code.rglob("*"):
        real = os.path.realpath(path)
        assert real == str(code) or real.startswith(f"{code}/"), f"{path} leads to {real}"
        assert path.is_symlink() or path.is_dir() or path.is_file()
        size += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    assert size <= 200


# -- from a store ----------------------------------------------------------------------------


@pytest.fixture
def backend(tmp_path: Path) -> Any:
    """A directory store."""
    (tmp_path / "store").mkdir()
    url = f"file://{tmp_path / 'store'}"
    init_store(url)
    return open_backend(url)


HONEST = archive((entry("train.py"), b"print(1)\n"))


def test_code_goes_up_once_and_comes_down_once(tmp_path: Path, backend: Any) -> None:
    """Named by its digest in both places; what is there already is not moved again."""
    packed = tmp_path / "packed"
    packed.write_bytes(HONEST)
    code = described(HONEST)
    assert publish(backend, "job", code, packed, Patience())
    assert not publish(backend, "job", code, packed, Patience())
    found = provide(backend, "job", code, tmp_path / "copies", Patience())
    assert tree(found) == {"train.py": b"print(1)\n"}
    backend.delete([code_key("job", code.sha256)])
    assert provide(backend, "job", code, tmp_path / "copies", Patience()) == found
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == [code.sha256]


def test_a_bundle_that_changed_since_is_not_published(tmp_path: Path, backend: Any) -> None:
    """Its name is a promise."""
    packed = tmp_path / "packed"
    packed.write_bytes(HONEST + b"x")
    with pytest.raises(Damaged, match="has changed"):
        publish(backend, "job", described(HONEST), packed, Patience())
    assert backend.info(code_key("job", described(HONEST).sha256)) is None


def test_code_that_is_not_in_the_store_is_lacking(tmp_path: Path, backend: Any) -> None:
    """With the remedy."""
    with pytest.raises(Lacking, match="not in the store") as caught:
        provide(backend, "job", described(HONEST), tmp_path / "copies", Patience())
    assert "--code bundle" in caught.value.remedy


@pytest.mark.parametrize("size", [len(HONEST), len(HONEST) - 1, len(HONEST) + 1])
def test_a_wrong_digest_or_size_is_refused_before_unpacking(
    tmp_path: Path, backend: Any, size: int
) -> None:
    """Bytes under the right name that are not what the name says."""
    other = archive((entry("evil.py"), b"x"))
    code = Bundle(described(other).sha256, size, 10_000, 100, "/p")
    backend.put_bytes(code_key("job", code.sha256), HONEST)
    with pytest.raises(Damaged, match="not the bundle that the spec names"):
        provide(backend, "job", code, tmp_path / "copies", Patience())
    assert list((tmp_path / "copies").iterdir()) == []
