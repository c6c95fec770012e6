from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from spotwatchd.errors import ConfigError, StoreDenied
from spotwatchd.store.init import init_store
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from tests.servers.carefree import Carefree
from tests.servers.fixtures import use_credentials
from tests.servers.seaweed import READER, READER_SECRET, Seaweed


def test_init_marks_a_directory_once(tmp_path: Path) -> None:
    """The second time says so and leaves the marker alone."""
    assert init_store(f"file://{tmp_path}") == f"file://{tmp_path} is now a store"
    marker = (tmp_path / ".spotwatch-store").read_bytes()
    assert json.loads(marker)["version"] == 1
    assert init_store(f"file://{tmp_path}/") == f"file://{tmp_path} already was a store"
    assert (tmp_path / ".spotwatch-store").read_bytes() == marker


def test_a_name_with_spaces_and_signs(tmp_path: Path) -> None:
    (tmp_path / "a b#%").mkdir()
    init_store(f"file://{tmp_path}/a%20b%23%25")
    open_backend(f"file://{tmp_path}/a%20b%23%25").put_bytes("job/x", b"1")
    assert (tmp_path / "a b#%" / "job" / "x").read_bytes() == b"1"


def test_init_creates_no_directory(tmp_path: Path) -> None:
    """A missing one may be a mount point on a disk that is not there."""
    with pytest.raises(StoreDenied, match="does not exist") as refused:
        init_store(f"file://{tmp_path}/absent")
    assert f"mkdir {tmp_path}/absent" in refused.value.remedy
    assert not (tmp_path / "absent").exists()


def test_a_disk_in_memory_is_refused_unless_told() -> None:
    """It dies with the machine, and the checkpoints with it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        with pytest.raises(StoreDenied, match="tmpfs") as refused:
            init_store(f"file://{name}")
        assert "dies with the machine" in str(refused.value)
        assert list(Path(name).iterdir()) == []
        init_store(f"file://{name}", any_disk=True)


def test_a_url_that_is_none_is_refused_first() -> None:
    with pytest.raises(ConfigError):
        init_store("ftp://host/path")


def test_init_of_a_bucket_probes_it(
    seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions
) -> None:
    said = init_store(f"s3://{s3_prefix}?endpoint={seaweed.endpoint}", aws_environment)
    assert "honours conditional writes" in said


@pytest.mark.parametrize(
    ("fault", "header"),
    [("ignore-if-none-match", "If-None-Match"), ("ignore-if-match", "If-Match")],
)
def test_a_server_that_ignores_conditions_is_refused(
    aws_environment: StoreOptions, fault: str, header: str
) -> None:
    """It would give one job to two machines. The probe's scratch object is removed."""
    with Carefree({fault}) as server:
        with pytest.raises(StoreDenied, match=f"ignores {header}:") as refused:
            init_store(f"s3://bucket/prefix?endpoint={server.endpoint}", aws_environment)
        assert "honours conditional writes" in refused.value.remedy
        assert server.objects == {}


def test_a_server_that_keeps_no_checksums_will_do(aws_environment: StoreOptions) -> None:
    with Carefree() as server:
        init_store(f"s3://bucket/prefix?endpoint={server.endpoint}", aws_environment)
        assert server.objects == {}


def test_a_bucket_that_may_only_be_read_is_refused(
    seaweed: Seaweed,
    s3_prefix: str,
    aws_environment: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The missing permission is named as an administrator would write it."""
    use_credentials(monkeypatch, READER, READER_SECRET)
    with pytest.raises(StoreDenied, match="PutObject answered 403 AccessDenied") as refused:
        init_store(f"s3://{s3_prefix}?endpoint={seaweed.endpoint}", aws_environment)
    assert f"s3:PutObject on arn:aws:s3:::{s3_prefix}/*" in refused.value.remedy
