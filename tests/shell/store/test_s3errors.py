"""Answers of S3 that no server here gives, and what each means."""

from __future__ import annotations

import pytest

from spotwatchd.errors import Conflict, Damaged, StoreDenied, StoreError, StoreUnavailable
from spotwatchd.store.s3errors import Absent, Answer, meaning

TABLE: list[tuple[int, str, type[StoreError], str]] = [
    (400, "ExpiredToken", StoreUnavailable, "have expired"),
    (400, "InvalidToken", StoreDenied, "AWS_SESSION_TOKEN"),
    (403, "InvalidAccessKeyId", StoreDenied, "AWS_ACCESS_KEY_ID"),
    (403, "RequestTimeTooSkewed", StoreUnavailable, "chronyd"),
    (403, "AccessDenied", StoreDenied, "s3:PutObject on arn:aws:s3:::acme/team/*"),
    (401, "Unauthorized", StoreDenied, "s3:PutObject"),
    (301, "PermanentRedirect", StoreDenied, "?region="),
    (400, "AuthorizationHeaderMalformed", StoreDenied, "?region="),
    (403, "403", StoreUnavailable, "tried again"),
    (400, "400", StoreUnavailable, "tried again"),
    (404, "NoSuchBucket", StoreDenied, "create the bucket acme"),
    (404, "NoSuchKey", Absent, ""),
    (404, "404", Absent, ""),
    (409, "ConditionalRequestConflict", Conflict, ""),
    (412, "PreconditionFailed", Conflict, ""),
    (400, "BadDigest", Damaged, ""),
    (400, "RequestTimeout", StoreUnavailable, "tried again"),
    (429, "TooManyRequests", StoreUnavailable, "tried again"),
    (500, "InternalError", StoreUnavailable, "tried again"),
    (503, "SlowDown", StoreUnavailable, "tried again"),
    (501, "NotImplemented", StoreDenied, "docs/stores.md"),
    (507, "InsufficientStorage", StoreDenied, "full"),
    (500, "XMinioStorageFull", StoreDenied, "full"),
    (400, "InvalidRequest", StoreDenied, "docs/stores.md"),
]


@pytest.mark.parametrize(("status", "code", "kind", "remedy"), TABLE)
def test_the_meaning_of_an_answer(
    status: int, code: str, kind: type[StoreError], remedy: str
) -> None:
    """Kind, operation, address and remedy."""
    answer = Answer("PutObject", "acme", "team/job/x", "team/", status, code, "because")
    error = meaning(answer)
    assert type(error) is kind
    assert f"PutObject answered {status}" in error.what
    assert error.where == "s3://acme/team/job/x"
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("operation", "needs"),
    [
        ("GetObject", "s3:GetObject on arn:aws:s3:::acme/team/* and s3:ListBucket on"),
        ("HeadObject", "s3:GetObject on arn:aws:s3:::acme/team/*"),
        ("UploadPart", "s3:PutObject on arn:aws:s3:::acme/team/*"),
        ("DeleteObjects", "s3:DeleteObject on arn:aws:s3:::acme/team/*"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload on arn:aws:s3:::acme/team/*"),
        ("ListObjectsV2", "s3:ListBucket on arn:aws:s3:::acme ("),
    ],
)
def test_the_permission_that_is_missing_is_named(operation: str, needs: str) -> None:
    error = meaning(Answer(operation, "acme", "team/job/x", "team/", 403, "AccessDenied", ""))
    assert needs in error.remedy
