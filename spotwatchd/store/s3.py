"""A store in S3, or in a server that speaks it well enough (docs/stores.md).

The library never retries: a conditional write that is sent twice can lose against itself.
What may be repeated is repeated by this package, within the caller's time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

# With awscrt importable, botocore signs with it, and over http the same upload takes three
# times as long. Read once, when botocore is imported.
os.environ.setdefault("BOTO_DISABLE_CRT", "true")

import boto3
import botocore.session
import urllib3.exceptions
from botocore import exceptions as boto
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies, parse_timestamp

from spotwatchd.errors import StoreDenied, StoreError
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.s3client import Site
from spotwatchd.store.s3clock import is_skewed, resign
from spotwatchd.store.s3errors import EXPIRED, Answer, meaning, unavailable, untrusted
from spotwatchd.store.s3http import Address
from spotwatchd.store.s3sign import Clock, Keys, Signer

_METHODS = {
    "AbortMultipartUpload": "abort_multipart_upload",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "CreateMultipartUpload": "create_multipart_upload",
    "DeleteObject": "delete_object",
    "DeleteObjects": "delete_objects",
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "ListMultipartUploads": "list_multipart_uploads",
    "ListObjectsV2": "list_objects_v2",
    "PutObject": "put_object",
    "UploadPart": "upload_part",
}
# The credentials come over the network too, on an instance.
_NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    # The library lets these through when the body of a refusal breaks off.
    urllib3.exceptions.HTTPError,
)
_ABOUT_BUCKET = {"DeleteObjects", "ListMultipartUploads", "ListObjectsV2"}
# The clock may have to be mended, and then the credentials.
_AMENDS = 3
# Among them: expired credentials, a clock that is wrong.
_UNEXPLAINED = {400, 403}
# Whoever renews credentials outside needs time for it; asking more often helps nobody.
_RENEW_EVERY = 2.0
_PROBE_KEY = "spotwatch-where"
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request,")


class _Prepared(Exception):
    """A request as the library would have sent it."""

    def __init__(self, url: str, authorization: str) -> None:
        super().__init__(url)
        self.url = urlsplit(url)
        self.authorization = authorization


class Caller:
    """See s3client.S3Caller. Safe for threads: so is the library's client."""

    def __init__(self, bucket: str, prefix: str, options: StoreOptions) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._options = options
        self._clock = Clock()
        self._lock = threading.Lock()
        self._asking_where = threading.local()
        self._renewed = float("-inf")
        with _library_errors("open", f"s3://{bucket}/{prefix}"):
            self._open()

    def _open(self) -> None:
        session, options = _session(), self._options
        client = boto3.Session(
            botocore_session=session, region_name=_region(session, options)
        ).client("s3", endpoint_url=options.endpoint_url, config=_config(options))
        client.meta.events.register("before-send.s3", self._before_send)
        self._session, self._client = session, client

    def _before_send(self, request: Any, **_: Any) -> None:
        """The library's hook: just before a request goes out."""
        if getattr(self._asking_where, "now", False):
            authorization = request.headers.get("Authorization", "")
            if isinstance(authorization, bytes):
                authorization = authorization.decode()
            raise _Prepared(request.url, authorization)
        if self._clock.offset:
            resign(request, self._clock, self.keys())

    def __call__(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One request; again only if it was refused for its time or its credentials."""
        if operation not in _ABOUT_BUCKET:
            parameters["Key"] = key
        for _ in range(_AMENDS):
            keys = self.keys()
            try:
                with _library_errors(operation, f"s3://{self.bucket}/{key}"):
                    method = getattr(self._client, _METHODS[operation])
                    return dict(method(Bucket=self.bucket, **parameters))
            except boto.ClientError as error:
                refusal = self._answer(operation, key, error)
                cause, date = error, _date_of(error)
            if operation == "HeadObject" and refusal.status in _UNEXPLAINED:
                self._ask_why(key)
            elif not self.amend(refusal.status, refusal.code, date, keys):
                break
        raise meaning(refusal) from cause

    def _ask_why(self, key: str) -> None:
        """A refused HEAD has no body to say why; a GET has one. Mends or raises what it says."""
        self("GetObject", key)["Body"].close()

    def keys(self) -> Keys:
        """See s3client.S3Caller."""
        with _library_errors("find credentials", f"s3://{self.bucket}/{self.prefix}"):
            found = self._session.get_credentials()
            if found is None:
                raise boto.NoCredentialsError
            frozen = found.get_frozen_credentials()
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def amend(self, status: int, code: str, date: str, keys: Keys) -> bool:
        """See s3client.S3Caller."""
        if is_skewed(status, code, date, self._clock):
            return self._clock.learn(date)
        return code in EXPIRED and self._renew(keys)

    def _renew(self, keys: Keys) -> bool:
        """Read the configuration anew: somebody may have put fresh credentials there."""
        with self._lock:
            if self.keys() != keys:
                return True
            if time.monotonic() - self._renewed < _RENEW_EVERY:
                return False
            self._renewed = time.monotonic()
            with _library_errors("renew credentials", f"s3://{self.bucket}/{self.prefix}"):
                self._open()
            return self.keys() != keys

    def site(self) -> Site | None:
        """See s3client.S3Caller. Prepares a request and does not send it."""
        self._asking_where.now = True
        try:
            with _library_errors("resolve the endpoint", f"s3://{self.bucket}/{self.prefix}"):
                self._client.put_object(Bucket=self.bucket, Key=_PROBE_KEY, Body=b"")
        except _Prepared as prepared:
            return self._site(prepared)
        finally:
            self._asking_where.now = False
        raise AssertionError("the request was sent")

    def _site(self, prepared: _Prepared) -> Site | None:
        url, scope = prepared.url, _SCOPE.match(prepared.authorization)
        if scope is None or url.scheme in get_environ_proxies(url.geturl()):
            return None
        tls = url.scheme == "https"
        context = _tls(self._session.get_config_variable("ca_bundle")) if tls else None
        address = Address(url.hostname or "", url.port or (443 if tls else 80), context)
        path = url.path.removesuffix(_PROBE_KEY)
        return Site(address, _host(url), path, Signer(scope[1], self._clock))

    def _answer(self, operation: str, key: str, error: boto.ClientError) -> Answer:
        said: Mapping[str, Any] = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(said.get("Code", status))
        message = str(said.get("Message", ""))
        return Answer(operation, self.bucket, key, self.prefix, int(status), code, message)

    def chunks(self, body: Any, key: str, size: int) -> Iterator[bytes]:
        """An answer's body. Raises StoreUnavailable when it breaks off."""
        where = f"s3://{self.bucket}/{key}"
        with contextlib.closing(body), _library_errors("GetObject", where):
            yield from body.iter_chunks(size)


def _date_of(error: boto.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("date", ""))


def _host(url: SplitResult) -> str:
    usual = {"http": 80, "https": 443}.get(url.scheme)
    named = url.netloc.rpartition("@")[2]
    return named.removesuffix(f":{usual}")


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(True))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _session() -> botocore.session.Session:
    session = botocore.session.Session()
    # The instance's credentials come from its metadata service; the library's default is a
    # single try of one second, and a hiccup there would look like missing credentials.
    session.set_config_variable("metadata_service_num_attempts", 3)
    session.set_config_variable("metadata_service_timeout", 2)
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    return session


def _timestamp(value: Any) -> dt.datetime:
    """The library's own way takes a tenth of a millisecond: long listings pay it per object."""
    try:
        return dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)


def _region(session: botocore.session.Session, options: StoreOptions) -> str:
    # A server of one's own does not care, and signing needs some name.
    return options.region or session.get_config_variable("region") or "us-east-1"


def _config(options: StoreOptions) -> Config:
    style = options.addressing
    if style == "auto" and options.endpoint_url:
        style = "path"
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        # One connection per part and some for lease and commit, which must not queue.
        max_pool_connections=options.threads + 8,
        # We send CRC64NVME ourselves; the library's default adds a trailer that several
        # servers refuse over TLS, and it cannot check CRC64NVME on the way back.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        s3={"addressing_style": style},
    )


@contextlib.contextmanager
def _library_errors(operation: str, where: str) -> Iterator[None]:
    """The library's own errors in our words; answers (ClientError) pass."""
    try:
        yield
    except (boto.ClientError, _Prepared):
        raise
    except (boto.BotoCoreError, *_NO_ANSWER, OSError, ValueError) as error:
        raise _failure(error, operation, where) from error


def _failure(error: Exception, operation: str, where: str) -> StoreError:
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StoreDenied(
            f"cannot {operation}: there are no credentials",
            where=where,
            remedy="attach an instance profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return untrusted(operation, where)
    if isinstance(error, (*_NO_ANSWER, OSError)):
        return unavailable(f"{operation} got no answer: {error}", where)
    return StoreDenied(
        f"cannot {operation}: {error}",
        where=where,
        remedy="correct the AWS configuration (~/.aws/config, AWS_* variables) or the store's URL",
    )
