"""The requests that carry bytes, against servers that say exactly what a test wants."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from spotwatchd.errors import Damaged, StoreDenied, StoreUnavailable
from spotwatchd.rehearsal.machine import wait_for
from spotwatchd.store.base import Backend, Piece
from spotwatchd.store.checksum import crc64nvme, to_base64
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.patience import Cancelled, OutOfTime, Patience
from spotwatchd.store.shipping import warm
from spotwatchd.store.swap import boottime
from tests.servers.scripted import OK, Peer, Scripted

MIB = 1 << 20
BODY = os.urandom(3 * MIB)
Open = Callable[[Scripted], Backend]


@pytest.fixture
def opened(aws_environment: StoreOptions) -> Open:
    """A store at a scripted server, with a silence of one second."""

    def make(server: Scripted) -> Backend:
        options = replace(aws_environment, connect_timeout=5.0, read_timeout=1.0)
        return open_backend(f"s3://bucket/p?endpoint={server.endpoint}", options)

    return make


@contextmanager
def piece_of(path: Path, size: int = len(BODY)) -> Iterator[Piece]:
    path.write_bytes(BODY)
    file = os.open(path, os.O_RDONLY)
    try:
        yield Piece(file, path, 0, size)
    finally:
        os.close(file)


@pytest.fixture
def piece(tmp_path: Path) -> Iterator[Piece]:
    with piece_of(tmp_path / "file") as one:
        yield one


def good(peer: Peer) -> None:
    """Keeps answering yes, with the checksum that was sent."""
    while True:
        peer.request()
        named = [li for li in peer.heads[-1].split("\r\n") if li.startswith("x-amz-checksum")]
        peer.say(OK.replace(b"\r\n\r\n", f"\r\n{named[0]}\r\n\r\n".encode()))


def says(answer: bytes) -> Callable[[Peer], None]:
    """Reads one request, answers so and closes."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.say(answer)

    return script


def refusal(status: int, code: str, extra: str = "") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>on &quot;purpose&quot;</Message></Error>"
    return f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def part(store: Backend, piece: Piece, limits: Patience | None = None) -> object:
    return store.send_part("job/a/x", "token", 7, piece, limits or Patience())


def test_a_part_arrives_as_it_is_with_its_checksum(opened: Open, piece: Piece) -> None:
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        bodies.append(peer.request())
        peer.say(OK)

    with Scripted(script) as server:
        sent = opened(server).send_part("job/a/x y", "to/ken", 7, piece, Patience())
        head = server.peers[0].heads[0]
    assert bodies == [BODY]
    assert (sent.number, sent.size, sent.crc64nvme, sent.tag) == (
        7,
        len(BODY),
        crc64nvme(BODY),
        '"tag"',
    )
    assert head.startswith("PUT /bucket/p/job/a/x%20y?partNumber=7&uploadId=to%2Fken HTTP/1.1\r\n")
    assert f"\r\nx-amz-checksum-crc64nvme: {to_base64(sent.crc64nvme)}\r\n" in head


def test_connections_are_kept_and_warm_ones_are_used(opened: Open, piece: Piece) -> None:
    """Two requests one after the other need one connection, and it was there before them."""
    with Scripted(good) as server:
        store = opened(server)
        warm(store, Patience())
        wait_for(lambda: len(server.peers) == StoreOptions().threads, "connections", 20)
        part(store, piece)
        part(store, piece)
        assert len(server.peers) == StoreOptions().threads
        assert sum(len(peer.heads) for peer in server.peers) == 2


def test_a_store_that_is_away_can_be_warmed_without_harm(opened: Open) -> None:
    with Scripted(good) as server:
        store = opened(server)
    warm(store, Patience())


def test_a_connection_that_died_while_idle_costs_no_try(opened: Open, piece: Piece) -> None:
    """The server closes after each answer without saying so."""
    with Scripted(says(OK)) as server:
        store = opened(server)
        for _ in range(3):
            part(store, piece)
        assert len(server.peers) == 3


def test_a_connection_that_dies_under_a_request_costs_no_try(opened: Open, piece: Piece) -> None:
    """The second request of a connection gets no answer: it is sent again on a new one."""

    def once(peer: Peer) -> None:
        peer.request()
        peer.say(OK)
        peer.request()

    with Scripted(once, good) as server:
        store = opened(server)
        part(store, piece)
        part(store, piece)
        assert [len(peer.heads) for peer in server.peers] == [2, 1]


def test_a_new_connection_that_dies_is_a_failed_try(opened: Open, piece: Piece) -> None:
    def script(peer: Peer) -> None:
        peer.request()

    with Scripted(script) as server:
        with pytest.raises(StoreUnavailable, match="UploadPart got no answer"):
            part(opened(server), piece)
        assert len(server.peers) == 1


def test_a_refusal_in_the_middle_of_a_body_is_heard(opened: Open, piece: Piece) -> None:
    """The server answers after the head and never reads the body."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.say(refusal(403, "AccessDenied"))
        peer.stay()

    with Scripted(script) as server, pytest.raises(StoreDenied, match="403 AccessDenied") as heard:
        part(opened(server), piece)
    assert 'on "purpose"' in heard.value.what


@pytest.mark.parametrize("reads", [False, True])
def test_silence_ends_a_try(opened: Open, piece: Piece, reads: bool) -> None:
    """While the body is sent, and while the answer is awaited."""

    def script(peer: Peer) -> None:
        if reads:
            peer.request()
        peer.stay()

    with Scripted(script) as server, pytest.raises(StoreUnavailable, match="silent for"):
        part(opened(server), piece)


def cancel_after(event: threading.Event, limits: Patience) -> None:
    event.wait(20)
    limits.cancelled.set()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_send_ends_in_its_middle(aws_environment: StoreOptions, piece: Piece, how: str) -> None:
    """Nobody reads, and the silence allowed is longer than the test."""
    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        read.set()
        peer.stay()

    with Scripted(script) as server:
        options = replace(aws_environment, read_timeout=500.0)
        store = open_backend(f"s3://bucket/p?endpoint={server.endpoint}", options)
        limits = Patience(boottime() + 1 if how == "deadline" else None)
        if how == "cancel":
            threading.Thread(target=lambda: cancel_after(read, limits)).start()
        with pytest.raises(Cancelled if how == "cancel" else OutOfTime):
            part(store, piece, limits)


def test_what_nobody_takes_has_not_been_sent(aws_environment: StoreOptions, piece: Piece) -> None:
    """The kernel took it, and has most of it until the connection is closed."""
    waiting: list[int] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.stay()

    with Scripted(script) as server:
        store = open_backend(f"s3://bucket/p?endpoint={server.endpoint}", aws_environment)
        assert store.unsent() == 0
        limits = Patience(boottime() + 1, flow=lambda _size, _check: waiting.append(store.unsent()))
        with pytest.raises(OutOfTime):
            part(store, piece, limits)
        assert max(waiting) > 100_000
        assert store.unsent() == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"X" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        refusal(200, "InternalError").replace(b"X\r\n", b'OK\r\nETag: "tag"\r\n'),
    ],
    ids=["half", "other", "length", "huge", "chunk", "endless", "no tag", "error inside"],
)
def test_an_answer_that_is_none_is_a_failed_try(opened: Open, piece: Piece, answer: bytes) -> None:
    with Scripted(says(answer)) as server, pytest.raises(StoreUnavailable):
        part(opened(server), piece)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\netag:tag\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b'HTTP/1.0 200 OK\r\nETag: "tag"\r\n\r\n',
    ],
    ids=["interim", "chunked", "old"],
)
def test_what_http_allows_is_understood(opened: Open, piece: Piece, answer: bytes) -> None:
    with Scripted(says(answer)) as server:
        assert part(opened(server), piece)


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "SlowDown"), (400, "BadDigest"), (400, "RequestTimeout")],
)
def test_what_may_pass_is_a_failed_try(opened: Open, piece: Piece, status: int, code: str) -> None:
    with (
        Scripted(says(refusal(status, code))) as server,
        pytest.raises(StoreUnavailable, match=code),
    ):
        part(opened(server), piece)


def test_a_file_that_ends_too_early(opened: Open, tmp_path: Path) -> None:
    with (
        Scripted(good) as server,
        piece_of(tmp_path / "short", len(BODY) + 1) as short,
    ):
        store = opened(server)
        for call in (part, lambda s, p: s.put_piece("job/a/x", p, Patience())):
            with pytest.raises(Damaged, match="shorter") as refused:
                call(store, short)
            assert str(tmp_path / "short") in refused.value.where


# ---------------------------------------------------------------------- credentials and clocks


def test_a_clock_that_is_wrong_is_corrected(opened: Open, piece: Piece) -> None:
    """The answer's date is taken over, for the library's requests as well."""
    ahead = formatdate(time.time() + 86_400, usegmt=True)
    skewed = refusal(403, "RequestTimeTooSkewed", f"Date: {ahead}\r\n")
    with Scripted(says(skewed), good) as server:
        store = opened(server)
        part(store, piece)
        store.put_bytes("job/a/y", b"1")
        stamps = [h for p in server.peers for head in p.heads for h in head.split("\r\n")]
    days = [h[-16:-8] for h in stamps if h.lower().startswith("x-amz-date")]
    today, tomorrow = (time.strftime("%Y%m%d", time.gmtime(time.time() + s)) for s in (0, 86_400))
    assert days == [today, tomorrow, tomorrow]


def test_a_documents_request_with_a_wrong_clock_is_corrected(opened: Open) -> None:
    """Refused unread, so it may be sent again, conditional or not; and it is signed right."""
    ahead = formatdate(time.time() + 86_400, usegmt=True)
    # The server hangs up, and says so: what is never sent twice must not meet that by surprise.
    headers = f"Date: {ahead}\r\nConnection: close\r\n"
    skewed = refusal(403, "RequestTimeTooSkewed", headers)
    with Scripted(says(skewed), says(OK)) as server:
        assert opened(server).write_document("job/lease.json", b"1", None) == '"tag"'
        heads = [peer.heads[0] for peer in server.peers]
    assert len(heads) == 2
    assert all("if-none-match: *" in head.lower() for head in heads)
    tomorrow = time.strftime("%Y%m%d", time.gmtime(time.time() + 86_400))
    assert f"/{tomorrow}/us-east-1/s3/aws4_request" in heads[1]


def test_credentials_that_expire_are_read_anew(
    opened: Open, piece: Piece, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has renewed them in the meantime: the same try succeeds."""

    def expires(peer: Peer) -> None:
        peer.request()
        peer.say(OK)
        says(refusal(400, "ExpiredToken"))(peer)

    with Scripted(expires, good) as server:
        store = opened(server)
        part(store, piece)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
        part(store, piece)
        keys = [head for peer in server.peers for head in peer.heads]
    assert ["Credential=renewed/" in head for head in keys] == [False, False, True]


def test_expired_credentials_may_be_renewed_later(opened: Open, piece: Piece) -> None:
    """Nobody has renewed them yet: that is a failed try, and says what to do."""
    with (
        Scripted(says(refusal(400, "ExpiredToken"))) as server,
        pytest.raises(StoreUnavailable, match="ExpiredToken") as failed,
    ):
        part(opened(server), piece)
    assert "renew them" in failed.value.remedy


# ---------------------------------------------------------------------- TLS, proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate for 127.0.0.1 in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both").write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return folder / "both"


@pytest.fixture
def secure(certificate: Path) -> ssl.SSLContext:
    """The server's side of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_with_a_certificate_of_ones_own(
    opened: Open,
    piece: Piece,
    certificate: Path,
    secure: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What AWS_CA_BUNDLE names is trusted; the bytes arrive, and connections are kept."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            bodies.append(peer.request())
            peer.say(OK)

    with Scripted(script, tls=secure) as server:
        store = opened(server)
        part(store, piece)
        part(store, piece)
        assert len(server.peers) == 1
    assert bodies == [BODY, BODY]


def test_a_certificate_that_nobody_vouches_for(
    opened: Open, piece: Piece, secure: ssl.SSLContext
) -> None:
    with (
        Scripted(good, tls=secure) as server,
        pytest.raises(StoreDenied, match="not trusted") as refused,
    ):
        part(opened(server), piece)
    assert "AWS_CA_BUNDLE" in refused.value.remedy


def test_silence_over_tls_ends_a_try(
    opened: Open,
    piece: Piece,
    certificate: Path,
    secure: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))

    def script(peer: Peer) -> None:
        peer.head()
        peer.stay()

    with Scripted(script, tls=secure) as server:
        store = opened(server)
        with pytest.raises(StoreUnavailable, match="silent for"):
            part(store, piece)


def test_a_proxy_is_used_where_one_is_configured(
    aws_environment: StoreOptions, piece: Piece, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then bytes go through the S3 library, which knows the way; parts and ranges alike."""

    def proxy(peer: Peer) -> None:
        assert peer.request() == BODY
        # It hangs up after this: the library is not to use the connection again.
        peer.say(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    def ranged(peer: Peer) -> None:
        peer.head()
        peer.say(b'HTTP/1.1 206 P\r\nETag: "t"\r\nContent-Length: 3\r\n\r\nabc')

    with Scripted(proxy, ranged) as server:
        monkeypatch.setenv("http_proxy", server.endpoint)
        store = open_backend("s3://bucket/p?endpoint=http://store.example", aws_environment)
        part(store, piece)
        got = bytearray()
        store.fetch("job/a/x", 5, 3, got.extend, Patience())
        heads = [peer.heads[0] for peer in server.peers]
    assert heads[0].startswith("PUT http://store.example/bucket/p/job/a/x?")
    assert "range: bytes=5-7" in heads[1].lower()
    assert got == b"abc"


# ---------------------------------------------------------------------- ranges


def ranges(body: bytes) -> Callable[[Peer], None]:
    """Serves ranges of ``body`` for ever."""

    def script(peer: Peer) -> None:
        while found := re.search(r"bytes=(\d+)-(\d+)", peer.head()):
            part = body[int(found[1]) : int(found[2]) + 1]
            peer.say(b"HTTP/1.1 206 P\r\nContent-Length: %d\r\n\r\n" % len(part) + part)

    return script


def test_a_range_arrives_in_order(opened: Open) -> None:
    got = bytearray()
    with Scripted(ranges(BODY)) as server:
        store = opened(server)
        store.fetch("job/a/x", 1000, 2 * MIB + 1, got.extend, Patience())
        store.fetch("job/a/x", 0, 1, got.extend, Patience())
        store.fetch("job/a/x", 7, 0, got.extend, Patience())
        assert len(server.peers) == 1
    assert got == BODY[1000 : 1000 + 2 * MIB + 1] + BODY[:1]


def test_a_server_without_ranges_is_read_up_to_the_range(opened: Open) -> None:
    got = bytearray()
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    with Scripted(says(whole)) as server:
        opened(server).fetch("job/a/x", MIB + 5, MIB, got.extend, Patience())
    assert got == BODY[MIB + 5 : 2 * MIB + 5]


def test_an_object_that_is_too_short(opened: Open) -> None:
    with Scripted(ranges(BODY)) as server, pytest.raises(Damaged, match="shorter"):
        opened(server).fetch("job/a/x", len(BODY) - 1, 2, lambda _: None, Patience())


def test_an_answer_that_breaks_off(opened: Open) -> None:
    """The sink has what came before."""
    got = bytearray()
    half = b"HTTP/1.1 206 P\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[: 2 * MIB]
    with Scripted(says(half)) as server, pytest.raises(StoreUnavailable):
        opened(server).fetch("job/a/x", 0, len(BODY), got.extend, Patience())
    assert got == BODY[: 2 * MIB]


def test_a_sink_that_fails_is_not_the_stores_fault(opened: Open) -> None:
    def full(_: memoryview) -> None:
        raise OSError(28, "no space left on device")

    with Scripted(ranges(BODY)) as server, pytest.raises(OSError, match="no space"):
        opened(server).fetch("job/a/x", 0, MIB, full, Patience())


@pytest.mark.parametrize(("status", "kind"), [(404, KeyError), (416, Damaged)])
def test_what_is_not_there_cannot_be_fetched(
    opened: Open, status: int, kind: type[Exception]
) -> None:
    code = {404: "NoSuchKey", 416: "InvalidRange"}[status]
    with Scripted(says(refusal(status, code))) as server, pytest.raises(kind):
        opened(server).fetch("job/a/x", 0, MIB, lambda _: None, Patience())
