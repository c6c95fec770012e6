"""Servers that know less than AWS, buckets that are missing, credentials that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from spotwatchd.errors import StoreDenied, StoreUnavailable
from spotwatchd.rehearsal.s3server import free_ports
from spotwatchd.store.base import Backend
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.patience import OutOfTime, Patience
from spotwatchd.store.shipping import Outgoing, ship
from spotwatchd.store.swap import boottime
from tests.servers.carefree import Carefree
from tests.servers.fixtures import use_credentials
from tests.servers.seaweed import READER, READER_SECRET, Seaweed
from tests.shell.store.conftest import Local, send

MakeLocal = Callable[[int], Local]


def open_at(endpoint: str, prefix: str, options: StoreOptions) -> Backend:
    return open_backend(f"s3://{prefix}", replace(options, endpoint_url=endpoint))


@pytest.fixture
def carefree() -> Iterator[Carefree]:
    with Carefree() as server:
        yield server


@pytest.fixture
def simple(carefree: Carefree, aws_environment: StoreOptions) -> Backend:
    """A store on the server that keeps no checksums."""
    return open_at(carefree.endpoint, "bucket/p", aws_environment)


def test_without_a_checksum_the_object_is_read_back(simple: Backend, local: MakeLocal) -> None:
    file = local(100_000)
    send(simple, "job/a/x", file, 10)
    info = simple.info("job/a/x")
    assert info is not None
    assert info.crc64nvme is None


def test_a_server_that_stores_something_else_is_noticed(
    carefree: Carefree, simple: Backend, local: MakeLocal
) -> None:
    """It keeps no checksum and flips a bit: reading back finds it."""
    carefree.faults.add("flip")
    file = local(100_000)
    heard: list[StoreUnavailable] = []
    with pytest.raises(OutOfTime):
        ship(
            simple,
            [Outgoing("job/a/x", file.path, "x", file.size)],
            Patience(boottime() + 1),
            trouble=heard.append,
        )
    assert "holds other bytes" in heard[0].what


def test_a_server_without_batch_deletion(simple: Backend, carefree: Carefree) -> None:
    for name in "abc":
        simple.put_bytes(f"job/{name}", b"1")
    simple.delete(["job/a", "job/b", "job/c", "job/none"])
    assert carefree.objects == {}


def test_foreign_objects_in_the_bucket_are_left_alone(simple: Backend, carefree: Carefree) -> None:
    """Folders made in a console and keys that we could not have written are not listed."""
    simple.put_bytes("job/a/x", b"1")
    carefree.objects |= {"bucket/p/job/": b"", "bucket/p/job//odd": b"", "bucket/p/../up": b""}
    assert [o.key for o in simple.objects("")] == ["job/a/x"]


def test_a_bucket_that_is_missing(
    seaweed: Seaweed, aws_environment: StoreOptions, local: MakeLocal
) -> None:
    store = open_at(seaweed.endpoint, "no-such-bucket/p", aws_environment)
    file = local(9_000_000)
    for call in (
        lambda: store.write_document("job/lease.json", b"1", None),
        lambda: store.read_document("job/lease.json"),
        lambda: send(store, "job/a/x", file, 5),
        lambda: list(store.objects("")),
    ):
        with pytest.raises(StoreDenied, match="NoSuchBucket") as refused:
            call()
        assert "create the bucket no-such-bucket" in refused.value.remedy


def test_a_secret_key_that_is_wrong(
    seaweed: Seaweed,
    s3_prefix: str,
    aws_environment: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_credentials(monkeypatch, READER, "wrong")
    store = open_at(seaweed.endpoint, s3_prefix, aws_environment)
    with pytest.raises(StoreDenied, match="403 SignatureDoesNotMatch") as refused:
        store.read_document("job/lease.json")
    assert "secret key" in refused.value.remedy


def test_no_credentials_at_all(
    seaweed: Seaweed,
    s3_prefix: str,
    aws_environment: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_at(seaweed.endpoint, s3_prefix, aws_environment)
    with pytest.raises(StoreDenied, match="no credentials") as refused:
        store.read_document("job/lease.json")
    assert "instance profile" in refused.value.remedy


def test_a_bucket_that_may_only_be_read(
    s3: Backend,
    seaweed: Seaweed,
    s3_prefix: str,
    aws_environment: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reading works; each write names the permission that is missing."""
    s3.write_document("job/head.json", b"1", None)
    use_credentials(monkeypatch, READER, READER_SECRET)
    store = open_at(seaweed.endpoint, s3_prefix, aws_environment)
    found = store.read_document("job/head.json")
    assert found is not None
    arn = f"arn:aws:s3:::{s3_prefix}/*"
    with pytest.raises(StoreDenied) as refused:
        store.write_document("job/head.json", b"2", found.version)
    assert f"s3:PutObject on {arn}" in refused.value.remedy
    with pytest.raises(StoreDenied) as refused:
        store.delete(["job/head.json"])
    assert f"s3:DeleteObject on {arn}" in refused.value.remedy
    assert s3.read_document("job/head.json") == found


def test_nobody_listens(aws_environment: StoreOptions) -> None:
    (port,) = free_ports(1)
    store = open_backend(f"s3://bucket/p?endpoint=http://127.0.0.1:{port}", aws_environment)
    with pytest.raises(StoreUnavailable, match="PutObject got no answer"):
        store.write_document("job/lease.json", b"1", None)


def test_a_profile_that_does_not_exist(
    aws_environment: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreDenied, match="nobody") as refused:
        open_backend("s3://bucket/p", aws_environment)
    assert "AWS configuration" in refused.value.remedy


def test_documents_survive_the_death_of_the_server(
    s3: Backend, seaweed: Seaweed, local: MakeLocal
) -> None:
    """SIGKILL and a new start: what was acknowledged is there, and versions still hold."""
    version = s3.write_document("job/lease.json", b"1", None)
    file = local(9_000_000)
    send(s3, "job/a/x", file, 20)
    seaweed.kill()
    try:
        with pytest.raises(StoreUnavailable):
            s3.write_document("job/lease.json", b"2", version)
    finally:
        seaweed.start()
    info = s3.info("job/a/x")
    assert info is not None
    assert (info.size, info.crc64nvme) == (file.size, file.crc)
    s3.write_document("job/lease.json", b"2", version)
