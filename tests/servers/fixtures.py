"""Fixtures of the servers; a conftest that wants them imports them by name."""

from __future__ import annotations

import importlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.store.options import StoreOptions
from tests.servers.seaweed import ACCESS, SECRET, Seaweed

BUCKET = "spotwatch-tests"


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """A running SeaweedFS with one bucket, shared by all tests of a session."""
    with tempfile.TemporaryDirectory(prefix="seaweed-", ignore_cleanup_errors=True) as directory:
        server = Seaweed(Path(directory))
        server.start()
        try:
            admin_client(server).create_bucket(Bucket=BUCKET)
            yield server
        finally:
            server.kill()


def admin_client(server: Seaweed) -> Any:
    """A plain client of the S3 library, to look behind our back."""
    # Our module first: it decides how the library signs, when the library is imported.
    importlib.import_module("spotwatchd.store.s3")
    return importlib.import_module("boto3").client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
    )


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> StoreOptions:
    """Only the test server's credentials: nothing of the machine's own AWS set-up.

    Also the options that go with it: what a store is opened with.
    """
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    use_credentials(monkeypatch, ACCESS, SECRET)
    return StoreOptions(region="us-east-1")


def use_credentials(monkeypatch: pytest.MonkeyPatch, access: str, secret: str) -> None:
    """For every client that is made from now on."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


@pytest.fixture
def s3_prefix() -> str:
    """``BUCKET/PREFIX``, new for each test: ``f"s3://{s3_prefix}?endpoint=..."``."""
    return f"{BUCKET}/{uuid.uuid4().hex}"
