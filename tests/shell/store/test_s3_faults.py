"""S3 behind a proxy that loses, delays and refuses: what was done is what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spotwatchd.errors import Conflict, StoreDenied, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.checksum import crc64nvme_of_chunks
from spotwatchd.store.patience import OutOfTime
from tests.servers.fixtures import BUCKET, admin_client
from tests.servers.proxy import Fault, Kind, Proxy
from tests.servers.seaweed import Seaweed
from tests.shell.store.conftest import Local, send

MakeLocal = Callable[[int], Local]
SEVERAL_PARTS = 20_000_000


def body_of(store: Backend, key: str) -> bytes | None:
    found = store.read_document(key)
    return found.body if found else None


def put(store: Backend, local: Local, seconds: float = 20) -> None:
    send(store, "job/a/x", local, seconds)


def open_uploads(seaweed: Seaweed, store: Backend) -> list[Any]:
    prefix = store.url.removeprefix(f"s3://{BUCKET}/")
    answer = admin_client(seaweed).list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return list(answer.get("Uploads", []))


@pytest.mark.parametrize("kind", ["lose", "mute"])
def test_a_conditional_write_whose_answer_is_lost(
    proxy: Proxy, proxied: Backend, kind: Kind
) -> None:
    """Nobody knows, it is sent once only, and reading back tells that it happened."""
    proxy.add(Fault(kind, "PUT", "lease.json"))
    with pytest.raises(StoreUnavailable, match="PutObject got no answer") as failed:
        proxied.write_document("job/lease.json", b"mine", None)
    assert "job/lease.json" in failed.value.where
    assert proxy.count("PUT") == 1
    assert body_of(proxied, "job/lease.json") == b"mine"


@pytest.mark.parametrize("kind", ["drop", "reset", "stall"])
def test_a_conditional_write_that_never_arrives(proxy: Proxy, proxied: Backend, kind: Kind) -> None:
    """Nobody knows, it is sent once only, and reading back tells that it did not happen."""
    proxy.add(Fault(kind, "PUT", "lease.json"))
    with pytest.raises(StoreUnavailable):
        proxied.write_document("job/lease.json", b"mine", None)
    assert proxy.count("PUT") == 1
    assert body_of(proxied, "job/lease.json") is None


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_a_conditional_write_answered_5xx(
    proxy: Proxy, proxied: Backend, status: int, code: str
) -> None:
    """The outcome is unknown, and that is left to the caller: nothing is sent again."""
    proxy.add(Fault("answer", "PUT", status=status, code=code))
    with pytest.raises(StoreUnavailable, match=f"PutObject answered {status} {code}"):
        proxied.write_document("job/lease.json", b"mine", None)
    assert proxy.count("PUT") == 1


def test_a_second_try_after_a_lost_answer_conflicts_with_itself(
    proxy: Proxy, proxied: Backend
) -> None:
    """That is why callers read back and look for their own nonce."""
    proxy.add(Fault("lose", "PUT"))
    with pytest.raises(StoreUnavailable):
        proxied.write_document("job/lease.json", b"mine", None)
    with pytest.raises(Conflict):
        proxied.write_document("job/lease.json", b"mine", None)
    assert body_of(proxied, "job/lease.json") == b"mine"


def test_409_is_a_conflict(proxy: Proxy, proxied: Backend) -> None:
    proxy.add(Fault("answer", "PUT", status=409, code="ConditionalRequestConflict"))
    with pytest.raises(Conflict):
        proxied.write_document("job/lease.json", b"mine", None)


def test_404_to_a_write_on_a_version_is_a_conflict(proxy: Proxy, proxied: Backend) -> None:
    """AWS answers so when the document is gone; SeaweedFS says 412."""
    proxy.add(Fault("answer", "PUT", status=404, code="NoSuchKey"))
    with pytest.raises(Conflict):
        proxied.write_document("job/lease.json", b"mine", '"some etag"')


def test_a_manifest_is_written_once_only(proxy: Proxy, proxied: Backend) -> None:
    proxy.add(Fault("lose", "PUT"))
    with pytest.raises(StoreUnavailable):
        proxied.put_bytes("job/a/MANIFEST.json", b"{}", only_if_absent=True)
    assert proxy.count("PUT") == 1


def test_reads_are_repeated(proxy: Proxy, proxied: Backend) -> None:
    """Two failures in a row are ridden out, three are reported."""
    proxied.put_bytes("job/a/x", b"1")
    proxy.add(Fault("answer", status=503, code="SlowDown", times=2))
    assert b"".join(proxied.read("job/a/x")) == b"1"
    proxy.add(Fault("reset", times=3))
    with pytest.raises(StoreUnavailable, match="HeadObject got no answer"):
        proxied.info("job/a/x")
    assert [o.key for o in proxied.objects("")] == ["job/a/x"]


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", StoreDenied), ("ExpiredToken", StoreUnavailable)]
)
def test_why_a_head_was_refused_is_asked(
    proxy: Proxy, proxied: Backend, code: str, error: type[Exception]
) -> None:
    """Its answer has no body to say so; that of a GET has."""
    proxied.put_bytes("job/a/x", b"1")
    proxy.add(Fault("answer", "HEAD", status=403, times=-1))
    proxy.add(Fault("answer", "GET", status=403, code=code, times=-1))
    with pytest.raises(error, match=f"GetObject answered 403 {code}"):
        proxied.info("job/a/x")


def test_a_head_that_was_refused_while_a_get_is_not_is_asked_again(
    proxy: Proxy, proxied: Backend
) -> None:
    proxied.put_bytes("job/a/x", b"1")
    proxy.add(Fault("answer", "HEAD", status=403))
    found = proxied.info("job/a/x")
    assert found is not None
    assert found.size == 1
    proxy.add(Fault("answer", "HEAD", status=403, times=-1))
    with pytest.raises(StoreUnavailable, match="HeadObject answered 403"):
        proxied.info("job/a/x")


def test_a_document_whose_body_breaks_off_is_read_again(proxy: Proxy, proxied: Backend) -> None:
    proxied.write_document("job/head.json", b"x" * 100_000, None)
    proxy.add(Fault("cut", "GET"))
    assert body_of(proxied, "job/head.json") == b"x" * 100_000


def test_a_download_that_breaks_off_goes_on_where_it_broke(
    proxy: Proxy, proxied: Backend, local: MakeLocal
) -> None:
    """No byte twice, none missing."""
    file = local(5_000_000)
    put(proxied, file)
    proxy.add(Fault("cut", "GET", times=2))
    assert crc64nvme_of_chunks(proxied.read("job/a/x")) == (file.size, file.crc)
    assert proxy.count("GET") == 3


def test_an_answer_that_promises_more_than_there_is_damages_nothing(
    proxy: Proxy, proxied: Backend
) -> None:
    """All bytes came, and behind them is nothing: the promise was wrong, not the object."""
    proxied.put_bytes("job/a/x", b"12345")
    proxy.add(Fault("boast", "GET"))
    with pytest.raises(StoreUnavailable, match="longer than the object"):
        b"".join(proxied.read("job/a/x"))
    assert b"".join(proxied.read("job/a/x")) == b"12345"


def test_a_store_that_is_gone(proxy: Proxy, proxied: Backend) -> None:
    """Every call ends by itself with StoreUnavailable."""
    proxy.add(Fault("reset", times=-1))
    calls: list[Callable[[], object]] = [
        lambda: proxied.read_document("job/lease.json"),
        lambda: proxied.put_bytes("job/a/x", b""),
        lambda: list(proxied.objects("")),
        lambda: list(proxied.children("")),
        lambda: proxied.delete(["job/a/x"]),
        proxied.probe,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()


@pytest.mark.parametrize("size", [1000, SEVERAL_PARTS])
@pytest.mark.parametrize("kind", ["lose", "reset", "answer", "stall", "cut"])
def test_an_upload_rides_out_failures(
    proxy: Proxy, proxied: Backend, local: MakeLocal, size: int, kind: Kind
) -> None:
    file = local(size)
    proxy.add(Fault(kind, "PUT", times=2))
    put(proxied, file)
    assert crc64nvme_of_chunks(proxied.read("job/a/x")) == (file.size, file.crc)


def test_a_completion_whose_answer_is_lost_is_a_success(
    proxy: Proxy, proxied: Backend, local: MakeLocal, seaweed: Seaweed
) -> None:
    """The object is there with our checksum; nothing is sent again."""
    proxy.add(Fault("lose", "POST", "uploadId="))
    put(proxied, local(SEVERAL_PARTS))
    assert proxy.count("POST", "uploadId=") == 1
    assert proxy.count("DELETE") == 0
    assert open_uploads(seaweed, proxied) == []


def test_a_completion_that_fails_inside_a_200(
    proxy: Proxy, proxied: Backend, local: MakeLocal
) -> None:
    """S3 may say 200 and then an error; that is no success, and is tried again."""
    proxy.add(Fault("answer", "POST", "uploadId=", status=200, code="InternalError"))
    put(proxied, local(SEVERAL_PARTS))
    assert proxy.count("POST", "uploadId=") == 2


@pytest.mark.parametrize("size", [1000, SEVERAL_PARTS])
def test_a_bit_that_flips_on_the_way_is_noticed(
    proxy: Proxy, proxied: Backend, local: MakeLocal, seaweed: Seaweed, size: int
) -> None:
    """The store refuses it by checksum, and it is sent again: nothing wrong is ever stored."""
    proxy.add(Fault("garble", "PUT", times=3))
    file = local(size)
    put(proxied, file)
    assert proxy.count("PUT") >= 4
    assert crc64nvme_of_chunks(proxied.read("job/a/x")) == (file.size, file.crc)
    assert open_uploads(seaweed, proxied) == []


@pytest.mark.parametrize("size", [1000, SEVERAL_PARTS])
@pytest.mark.parametrize("kind", ["stall", "garble"])
def test_an_upload_ends_when_its_time_is_over(
    proxy: Proxy, proxied: Backend, local: MakeLocal, seaweed: Seaweed, size: int, kind: Kind
) -> None:
    """In the middle of a request, too; nothing is left."""
    proxy.add(Fault(kind, "PUT", times=-1))
    with pytest.raises(OutOfTime):
        put(proxied, local(size), seconds=2)
    proxy.clear()
    assert proxied.info("job/a/x") is None
    assert open_uploads(seaweed, proxied) == []


@pytest.mark.parametrize("size", [1000, SEVERAL_PARTS])
def test_a_refusal_ends_an_upload_at_once(
    proxy: Proxy, proxied: Backend, local: MakeLocal, seaweed: Seaweed, size: int
) -> None:
    """A person has to act, so nothing is repeated, and no parts stay to be paid for."""
    proxy.add(Fault("answer", "PUT", status=403, code="AccessDenied", times=-1))
    with pytest.raises(StoreDenied, match="answered 403 AccessDenied") as refused:
        put(proxied, local(size))
    assert f"s3:PutObject on arn:aws:s3:::{BUCKET}/" in refused.value.remedy
    assert proxy.count("PUT") <= 4
    assert open_uploads(seaweed, proxied) == []


def test_a_server_that_cannot_say_its_checksum_is_read_back(
    proxy: Proxy, proxied: Backend, local: MakeLocal
) -> None:
    """With a checksum known to the store a HEAD is enough: no byte is read."""
    put(proxied, local(SEVERAL_PARTS))
    assert proxy.count("HEAD") == 1
    assert proxy.count("GET") == 0


def test_what_a_commit_costs(proxy: Proxy, proxied: Backend, local: MakeLocal) -> None:
    """One request per small file, create + parts + complete + look for a large one."""
    put(proxied, local(1000))
    assert len(proxy.seen) == 1
    proxy.clear()
    put(proxied, local(SEVERAL_PARTS))
    assert len(proxy.seen) == 1 + 2 + 1 + 1
