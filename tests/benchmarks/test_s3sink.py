"""The speed-test server answers as S3 does where a client's result depends on it."""

from __future__ import annotations

import base64
import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.support.sink import Sink
from spotwatchd.store.checksum import crc64nvme
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.patience import Patience
from spotwatchd.store.shipboard import Outgoing
from spotwatchd.store.shipping import ship

S3Client = Any

MIB = 1 << 20
PART = 5 * MIB
BODY = bytes(range(256)) * 4096 * 12  # 12 MiB: three parts


def text(body: bytes) -> str:
    """Its checksum as S3 writes it."""
    return base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode()


def client_of(sink: Sink) -> S3Client:
    """A client without the repetitions that would hide a refusal."""
    return boto3.client(
        "s3",
        endpoint_url=sink.endpoint,
        aws_access_key_id="a",
        aws_secret_access_key="b",  # noqa: S106 - nobody checks it
        region_name="us-east-1",
        verify=sink.environment.get("AWS_CA_BUNDLE"),
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.fixture(params=["discard", "keep", "verify", "tls"])
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    """A server in each of its modes."""
    mode = request.param
    with Sink(keep=mode in {"keep", "tls"}, verify=mode == "verify", tls=mode == "tls") as made:
        yield made


@pytest.fixture
def client(sink: Sink) -> Iterator[S3Client]:
    """A client of it."""
    made = client_of(sink)
    yield made
    made.close()


@pytest.fixture
def keeper() -> Iterator[tuple[Sink, S3Client]]:
    """A server that keeps and verifies everything."""
    with Sink(keep=True, verify=True) as sink:
        client = client_of(sink)
        yield sink, client
        client.close()


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """Status and code."""
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def upload_parts(client: S3Client, key: str, *, wrong: int | None = None) -> tuple[str, Any]:
    """Upload BODY in parts with checksums, part ``wrong`` with another's."""
    begun = client.create_multipart_upload(
        Bucket="b", Key=key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )
    parts = []
    for number, start in enumerate(range(0, len(BODY), PART), start=1):
        piece = BODY[start : start + PART]
        answer = client.upload_part(
            Bucket="b",
            Key=key,
            UploadId=begun["UploadId"],
            PartNumber=number,
            Body=piece,
            ChecksumCRC64NVME=text(b"other" if number == wrong else piece),
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    return begun["UploadId"], parts


def complete(client: S3Client, key: str, upload: str, parts: Any, crc: str, size: int) -> Any:
    """Make the parts one object."""
    return client.complete_multipart_upload(
        Bucket="b",
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": parts},
        ChecksumCRC64NVME=crc,
        ChecksumType="FULL_OBJECT",
        MpuObjectSize=size,
    )


def test_a_small_object_comes_back_with_its_checksum(client: S3Client) -> None:
    """Whole, in ranges, and in its HEAD."""
    client.put_object(Bucket="b", Key="a/ü &.txt", Body=b"0123456789")
    whole = client.get_object(Bucket="b", Key="a/ü &.txt", ChecksumMode="ENABLED")
    assert whole["Body"].read() == b"0123456789"
    assert whole["ChecksumCRC64NVME"] == text(b"0123456789")
    for asked, answer in {"2-4": b"234", "7-": b"789", "-2": b"89", "8-99": b"89"}.items():
        part = client.get_object(Bucket="b", Key="a/ü &.txt", Range=f"bytes={asked}")
        assert part["Body"].read() == answer
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket="b", Key="a/ü &.txt", Range="bytes=10-")
    assert refused(error) == (416, "InvalidRange")


def test_a_wrong_checksum_of_a_small_body_is_refused(client: S3Client) -> None:
    """In every mode, and nothing is there afterwards."""
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="b", Key="k", Body=b"one", ChecksumCRC64NVME=text(b"two"))
    assert refused(error) == (400, "BadDigest")
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket="b", Key="k")
    assert refused(error)[0] == 404


def test_conditions_are_honoured(client: S3Client) -> None:
    """If-None-Match and If-Match, as Amazon answers them."""
    first = client.put_object(Bucket="b", Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="b", Key="k", Body=b"2", IfNoneMatch="*")
    assert refused(error) == (412, "PreconditionFailed")
    client.put_object(Bucket="b", Key="k", Body=b"3", IfMatch=first)
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="b", Key="k", Body=b"4", IfMatch=first)
    assert refused(error) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="b", Key="none", Body=b"5", IfMatch=first)
    assert refused(error) == (404, "NoSuchKey")
    assert client.get_object(Bucket="b", Key="k")["Body"].read() == b"3"


def test_parts_make_one_object_with_a_checksum_of_the_whole(client: S3Client) -> None:
    """The parts' checksums are combined, and compared with what the client says."""
    upload, parts = upload_parts(client, "big")
    for crc, size, code in (
        (text(b"other"), len(BODY), "BadDigest"),
        (text(BODY), len(BODY) + 1, "InvalidRequest"),
    ):
        with pytest.raises(ClientError) as error:
            complete(client, "big", upload, parts, crc, size)
        assert refused(error) == (400, code)
    assert client.list_multipart_uploads(Bucket="b")["Uploads"][0]["Key"] == "big"
    answer = complete(client, "big", upload, parts, text(BODY), len(BODY))
    assert answer["ChecksumCRC64NVME"] == text(BODY)
    head = client.head_object(Bucket="b", Key="big", ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumCRC64NVME"]) == (len(BODY), text(BODY))
    assert "Uploads" not in client.list_multipart_uploads(Bucket="b")


def test_a_part_that_is_not_there_or_too_small_is_refused(client: S3Client) -> None:
    """As is an upload that was aborted."""
    begun = client.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    tags = [
        client.upload_part(Bucket="b", Key="k", UploadId=begun, PartNumber=number, Body=b"x")
        for number in (1, 2)
    ]
    both: Any = [{"PartNumber": n, "ETag": tag["ETag"]} for n, tag in enumerate(tags, start=1)]
    for parts, code in (
        (both, "EntityTooSmall"),
        ([both[0], {"PartNumber": 3, "ETag": both[1]["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": both[1]["ETag"]}], "InvalidPart"),
    ):
        with pytest.raises(ClientError) as error:
            client.complete_multipart_upload(
                Bucket="b", Key="k", UploadId=begun, MultipartUpload={"Parts": parts}
            )
        assert refused(error) == (400, code)
    client.abort_multipart_upload(Bucket="b", Key="k", UploadId=begun)
    with pytest.raises(ClientError) as error:
        client.abort_multipart_upload(Bucket="b", Key="k", UploadId=begun)
    assert refused(error) == (404, "NoSuchUpload")


def test_listings_come_in_pages_and_folders(client: S3Client) -> None:
    """In the order of the keys, each once."""
    keys = [f"a/{number:02}" for number in range(7)] + ["a/b/1", "a/b/2", "a/c/1", "z"]
    for key in keys:
        client.put_object(Bucket="b", Key=key, Body=b"x")
    pages = client.get_paginator("list_objects_v2").paginate
    found = [
        entry["Key"]
        for page in pages(Bucket="b", PaginationConfig={"PageSize": 3})
        for entry in page["Contents"]
    ]
    assert found == keys
    names = [
        [entry["Key"] for entry in page.get("Contents", [])]
        + [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        for page in pages(Bucket="b", Prefix="a/", Delimiter="/", PaginationConfig={"PageSize": 4})
    ]
    assert list(itertools.chain(*names)) == [*keys[:7], "a/b/", "a/c/"]
    client.delete_objects(Bucket="b", Delete={"Objects": [{"Key": key} for key in keys[1:]]})
    client.delete_object(Bucket="b", Key="never-was")
    assert client.list_objects_v2(Bucket="b")["KeyCount"] == 1


def test_a_kept_object_of_parts_comes_back_byte_for_byte(keeper: tuple[Sink, S3Client]) -> None:
    """Whole, and in a range across two parts."""
    _, client = keeper
    upload, parts = upload_parts(client, "big")
    complete(client, "big", upload, parts, text(BODY), len(BODY))
    assert client.get_object(Bucket="b", Key="big")["Body"].read() == BODY
    across = client.get_object(Bucket="b", Key="big", Range=f"bytes={PART - 7}-{2 * PART + 7}")
    assert across["Body"].read() == BODY[PART - 7 : 2 * PART + 8]


def test_a_wrong_checksum_of_a_large_part_is_refused(keeper: tuple[Sink, S3Client]) -> None:
    """When asked to verify, the server computes it."""
    _, client = keeper
    with pytest.raises(ClientError) as error:
        upload_parts(client, "big", wrong=2)
    assert refused(error) == (400, "BadDigest")


def test_what_was_thrown_away_is_not_made_up() -> None:
    """A server that does not keep a body says so."""
    with Sink() as sink:
        client = client_of(sink)
        client.put_object(Bucket="b", Key="k", Body=BODY)
        with pytest.raises(ClientError) as error:
            client.get_object(Bucket="b", Key="k")
        client.close()
    assert refused(error) == (501, "NotImplemented")


def test_our_own_backend_takes_it_for_a_store(tmp_path: Path) -> None:
    """Conditions, checksums, large files, listing and deleting, as the replicator uses them."""
    with Sink(keep=True, verify=True) as sink, pytest.MonkeyPatch.context() as patch:
        for name, value in sink.environment.items():
            patch.setenv(name, value)
        backend = open_backend(sink.store, StoreOptions())
        backend.probe()
        path = tmp_path / "file"
        path.write_bytes(BODY)
        [stored] = ship(backend, [Outgoing("jobs/file", path, "file", len(BODY))], Patience())
        assert stored.crc64nvme == crc64nvme(BODY)
        assert b"".join(backend.read("jobs/file")) == BODY
        assert [info.key for info in backend.objects("jobs")] == ["jobs/file"]
        backend.delete(["jobs/file"])
        assert list(backend.objects("jobs")) == []


@pytest.mark.parametrize("outer", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("crc", "status"), [(text(b"hello world"), 200), (text(b"x"), 400)])
def test_a_checksum_after_the_body_counts_too(outer: bool, crc: str, status: int) -> None:
    """In a trailer of aws-chunked, which may itself come in chunks of HTTP."""
    inner = f"5;x=1\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc64nvme:{crc}\r\n\r\n"
    wrapped = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n" if outer else inner
    length = "Transfer-Encoding: chunked" if outer else f"Content-Length: {len(inner)}"
    put = (
        f"PUT /b/k HTTP/1.1\r\n{length}\r\nContent-Encoding: aws-chunked\r\n"
        f"x-amz-decoded-content-length: 11\r\n\r\n{wrapped}"
    )
    with Sink() as sink:
        host, port = sink.endpoint.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall((put + "GET /b/k HTTP/1.1\r\nConnection: close\r\n\r\n").encode())
            said = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert said.endswith("hello world") == (status == 200)


def test_the_rate_is_kept() -> None:
    """8 MiB at 16 MiB/s cannot be there in less than half a second."""
    with Sink(rate=16 * MIB) as sink:
        client = client_of(sink)
        began = time.monotonic()
        client.put_object(Bucket="b", Key="k", Body=BODY[: 8 * MIB])
        took = time.monotonic() - began
        client.close()
    assert took >= 0.45
