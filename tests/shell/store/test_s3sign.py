"""The signer against S3's published example and against the S3 library's own signer."""

from __future__ import annotations

import calendar
import importlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.store import s3
from spotwatchd.store.s3sign import Clock, Keys, Query, Signer, encoded_path, encoded_query

# Our module first: it decides how the library signs, when the library is imported.
assert s3.__name__
auth: Any = importlib.import_module("botocore.auth")
awsrequest: Any = importlib.import_module("botocore.awsrequest")
credentials: Any = importlib.import_module("botocore.credentials")

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def clock_at(stamp: str) -> Clock:
    """A clock that shows this second now."""
    clock = Clock()
    clock.offset = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.time() + 0.1
    return clock


def test_the_published_example() -> None:
    """GET of a range, from "Signature Calculations for the Authorization Header"."""
    signer = Signer("us-east-1", clock_at("20130524T000000Z"))
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"}
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    signed = signer.sign("GET", "/test.txt", (), headers, keys, EMPTY)
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


# What a key or a value may hold: everything but what no URL and no header can carry.
text = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20)
word = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.~/+= ", min_size=1, max_size=20)
name = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@given(
    key=text,
    query=st.lists(st.tuples(text, text), max_size=3, unique_by=lambda pair: pair[0]),
    values=st.dictionaries(name.map(lambda n: f"x-amz-meta-{n}"), word.map(str.strip), max_size=3),
    token=st.none() | name,
    region=name,
)
def test_it_signs_as_the_library_does(
    key: str, query: list[tuple[str, str]], values: dict[str, str], token: str | None, region: str
) -> None:
    path = "/" + encoded_path(key)
    url = f"https://store.example{path}" + (f"?{encoded_query(query)}" if query else "")
    request = awsrequest.AWSRequest("PUT", url, headers=dict(values))
    request.context["payload_signing_enabled"] = False
    request.context["client_config"] = None
    request.context["has_streaming_input"] = True
    request.context["checksum"] = {"request_algorithm": {"in": "header", "name": "host"}}
    request.headers["host"] = "store.example"
    auth.S3SigV4Auth(credentials.Credentials("AK", "SK", token), "s3", region).add_auth(request)
    signer = Signer(region, clock_at(request.headers["X-Amz-Date"]))
    headers = {"host": "store.example", **values}
    signed = signer.sign("PUT", path, query, headers, Keys("AK", "SK", token))
    assert signed["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]
    assert signed["authorization"] == request.headers["Authorization"]


def test_a_signing_key_is_not_kept_for_another_secret() -> None:
    """Renewed credentials on the same day sign with the new secret."""
    signer = Signer("eu-west-1", clock_at("20300101T000000Z"))
    query: Query = ()
    first, second, again = (
        signer.sign("GET", "/k", query, {"host": "h"}, Keys("AK", secret))["authorization"]
        for secret in ("one", "two", "one")
    )
    assert first == again != second


@pytest.mark.parametrize("date", ["", "yesterday", "32 Foo 2020"])
def test_a_date_that_is_none_changes_no_clock(date: str) -> None:
    clock = Clock()
    assert not clock.learn(date)
    assert clock.offset == 0
