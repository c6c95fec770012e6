"""A store in S3, or in a server that speaks it well enough (docs/stores.md).

The library never retries: a conditional write that is sent twice can lose against itself.
What may be repeated is repeated by this package, within the caller's time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

# With awscrt importable, botocore signs with it, and over http the same upload takes three
# times as long. Read once, when botocore is imported.
os.environ.setdefault("BOTO_DISABLE_CRT", "true")

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config

from spotwatchd.errors import StoreDenied, StoreError
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.s3errors import Answer, meaning, unavailable

_METHODS = {
    "AbortMultipartUpload": "abort_multipart_upload",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "CreateMultipartUpload": "create_multipart_upload",
    "DeleteObject": "delete_object",
    "DeleteObjects": "delete_objects",
    "GetObject": "get_object",
    "HeadObject": "head_object",
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
)
_ABOUT_BUCKET = {"DeleteObjects", "ListObjectsV2"}


class Caller:
    """See s3client.S3Caller. Safe for threads: so is the library's client."""

    def __init__(self, bucket: str, prefix: str, options: StoreOptions) -> None:
        self.bucket = bucket
        self.prefix = prefix
        with _library_errors("open", f"s3://{bucket}/{prefix}"):
            self._client = _client(options)

    def __call__(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One request, sent once."""
        if operation not in _ABOUT_BUCKET:
            parameters["Key"] = key
        try:
            with _library_errors(operation, f"s3://{self.bucket}/{key}"):
                method = getattr(self._client, _METHODS[operation])
                return dict(method(Bucket=self.bucket, **parameters))
        except boto.ClientError as error:
            raise meaning(self._answer(operation, key, error)) from error

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


def _client(options: StoreOptions) -> Any:
    session = botocore.session.Session()
    # The instance's credentials come from its metadata service; the library's default is a
    # single try of one second, and a hiccup there would look like missing credentials.
    session.set_config_variable("metadata_service_num_attempts", 3)
    session.set_config_variable("metadata_service_timeout", 2)
    return boto3.Session(botocore_session=session, region_name=_region(session, options)).client(
        "s3", endpoint_url=options.endpoint_url, config=_config(options)
    )


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
    except boto.ClientError:
        raise
    except (boto.BotoCoreError, boto.HTTPClientError, OSError, ValueError) as error:
        raise _failure(error, operation, where) from error


def _failure(error: Exception, operation: str, where: str) -> StoreError:
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StoreDenied(
            f"cannot {operation}: there are no credentials",
            where=where,
            remedy="attach an instance profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreDenied(
            f"cannot {operation}: the store's certificate is not trusted",
            where=where,
            remedy="set AWS_CA_BUNDLE to the file with the authority's certificate",
        )
    if isinstance(error, (*_NO_ANSWER, OSError)):
        return unavailable(f"{operation} got no answer: {error}", where)
    return StoreDenied(
        f"cannot {operation}: {error}",
        where=where,
        remedy="correct the AWS configuration (~/.aws/config, AWS_* variables) or the store's URL",
    )
