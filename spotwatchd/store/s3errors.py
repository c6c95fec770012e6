"""What S3's answers mean, and what a person does about them. No library needed.

The codes are those of the S3 API reference ("Error responses"); HEAD has no body, so
there the status stands in for the code.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotwatchd.errors import Conflict, Damaged, StoreDenied, StoreError, StoreUnavailable


class Absent(StoreError):
    """There is no such key (or upload). Never leaves this room."""


@dataclass(frozen=True)
class Answer:
    """An answer that is no success.

    Attributes:
        operation: as S3 calls it, e.g. ``PutObject``.
        bucket: the bucket's name.
        key: the full key, prefix included; "" for the bucket itself.
        prefix: the store's prefix within the bucket, "" or ending in "/".
        status: the HTTP status.
        code: S3's code, e.g. ``AccessDenied``.
        message: S3's sentence, for people.
    """

    operation: str
    bucket: str
    key: str
    prefix: str
    status: int
    code: str
    message: str

    @property
    def where(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def what(self) -> str:
        code = "" if self.code == str(self.status) else f" {self.code}"
        return f"{self.operation} answered {self.status}{code}"


_ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
}
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key does not exist: check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "InvalidToken": "the session token is malformed: check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong: start chronyd or ntpd",
    "RequestExpired": "this machine's clock is wrong: start chronyd or ntpd",
}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_MAKE_SPACE = "the store is full: free space there, or keep fewer checkpoints"
_NAME_REGION = "the bucket is in another region: add ?region=NAME to the store's URL"
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "StorageFull"}
_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
_CONDITION = {"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"}
_DIGEST = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_TRANSIENT = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError", "Throttling"}
_FINAL_5XX = {501, 507}  # not implemented; insufficient storage
_TRANSIENT_STATUS = {408, 425, 429}


def meaning(answer: Answer) -> StoreError:
    """The error to raise for an answer."""
    if answer.status in {409, 412} or answer.code in _CONDITION:
        return Conflict(f"another writer came first: {answer.what}", where=answer.where)
    if answer.status == 404 and answer.code != "NoSuchBucket":
        return Absent(answer.what, where=answer.where)
    if answer.status == 416 or answer.code in _DIGEST:
        return _damaged(answer)
    if answer.code in EXPIRED | _SKEWED:
        return _amended(answer)
    if answer.code not in _FULL and (_is_transient(answer) or _is_unexplained(answer)):
        return unavailable(answer.what, answer.where)
    return _denied(answer, _remedy(answer))


def _damaged(answer: Answer) -> Damaged:
    if answer.status == 416:
        return Damaged("the object is shorter than it should be", where=answer.where)
    return Damaged(f"the bytes that arrived are not those sent: {answer.what}", where=answer.where)


def _amended(answer: Answer) -> StoreUnavailable:
    """What puts itself right: credentials are read anew, times are the store's (s3clock.py)."""
    expired = "the credentials have expired: renew them, or use an instance profile"
    remedy = _CREDENTIALS.get(answer.code, expired)
    return StoreUnavailable(answer.what, where=answer.where, remedy=remedy)


def _is_transient(answer: Answer) -> bool:
    if answer.status in _FINAL_5XX:
        return False
    return answer.status >= 500 or answer.status in _TRANSIENT_STATUS or answer.code in _TRANSIENT


def _is_unexplained(answer: Answer) -> bool:
    """S3 gives a reason with each refusal: something on the way said this, or broke its words."""
    return answer.status in {400, 403} and answer.code in {"", str(answer.status)}


def unavailable(what: str, where: str) -> StoreUnavailable:
    """The store did not answer, or not in a way that says what happened."""
    return StoreUnavailable(
        what,
        where=where,
        remedy="it is tried again; if it stays so, look at the network, the endpoint and the store",
    )


def untrusted(operation: str, where: str) -> StoreDenied:
    """The certificate is not signed by anybody whom this machine trusts."""
    return StoreDenied(
        f"cannot {operation}: the store's certificate is not trusted",
        where=where,
        remedy="set AWS_CA_BUNDLE to the file with the authority's certificate",
    )


def _denied(answer: Answer, remedy: str) -> StoreDenied:
    said = f" ({answer.message})" if answer.message else ""
    return StoreDenied(f"{answer.what}{said}", where=answer.where, remedy=remedy)


def _remedy(answer: Answer) -> str:
    by_code = {
        "NoSuchBucket": f"create the bucket {answer.bucket}, or correct the store's URL",
        **dict.fromkeys(_FULL, _MAKE_SPACE),
        **dict.fromkeys(_REGION, _NAME_REGION),
        **_CREDENTIALS,
    }
    by_status = {
        301: _NAME_REGION,
        307: _NAME_REGION,
        401: _permission(answer),
        403: _permission(answer),
        501: "this server lacks the operation: docs/stores.md names those that were tested",
        507: _MAKE_SPACE,
    }
    other = "the server refuses the request: docs/stores.md names the servers that were tested"
    return by_code.get(answer.code) or by_status.get(answer.status) or other


def _permission(answer: Answer) -> str:
    action = _ACTIONS.get(answer.operation, "s3:PutObject")
    bucket = f"arn:aws:s3:::{answer.bucket}"
    if action.startswith("s3:ListBucket"):
        return f"allow {action} on {bucket} (the whole policy is in docs/stores.md)"
    needs = f"allow {action} on {bucket}/{answer.prefix}*"
    if action == "s3:GetObject":
        # S3 hides absent keys from those who may not list: 403 instead of 404.
        needs += f" and s3:ListBucket on {bucket}"
    return f"{needs} (the whole policy is in docs/stores.md)"
