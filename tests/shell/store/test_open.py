from __future__ import annotations

import subprocess
import sys

import pytest

from spotwatchd.errors import ConfigError
from spotwatchd.store.directory import DirectoryBackend
from spotwatchd.store.open import open_backend, with_settings
from spotwatchd.store.options import StoreOptions

BAD = {
    "": "a store is",
    "/mnt/efs": "file:///mnt/efs",
    "./here": "file:///",
    "efs": "a store is",
    "http://host/path": "a store is",
    "file://mnt/efs": "file:///mnt/efs",
    "file:///": "absolute path",
    "file://": "absolute path",
    "file:///mnt/../etc": "absolute path",
    "file:///mnt/efs?x=1": "leave out",
    "s3://": "bucket's name",
    "s3:///prefix": "bucket's name",
    "s3://Bucket_1/x": "bucket's name",
    "s3://ab/x": "bucket's name",
    "s3://bucket/a//b": "not a store key",
    "s3://bucket/../b": "not a store key",
    "s3://bucket/x#y": "%23",
    "s3://bucket/x?endpint=http://h": "known are endpoint, region, addressing",
    "s3://bucket/x?endpoint=": "has no value",
    "s3://bucket/x?endpoint=localhost:8333": "http(s)://host:port",
    "s3://bucket/x?endpoint=http://h:port": "http(s)://host:port",
    "s3://bucket/x?addressing=sideways": "one of auto, path, virtual",
    "s3://[bucket/x": "a store is",
}


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_store_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ConfigError, match="not a store's URL") as refused:
        open_backend(url, StoreOptions())
    assert repr(url) in refused.value.where
    assert BAD[url] in refused.value.remedy


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="contains credentials") as refused:
        open_backend("s3://AKIAEXAMPLE:very-secret@bucket/prefix")
    assert "secret" not in str(refused.value).replace("AWS_SECRET_ACCESS_KEY", "")


def test_a_bad_endpoint_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
    with pytest.raises(ConfigError) as refused:
        open_backend("s3://bucket/prefix")
    assert "'localhost:9000'" in refused.value.remedy


def test_a_directory() -> None:
    """Trailing slashes are nothing, and escapes are undone."""
    store = open_backend("file:///mnt/my%20efs/")
    assert isinstance(store, DirectoryBackend)
    assert (str(store.root), store.url) == ("/mnt/my efs", "file:///mnt/my%20efs")
    assert open_backend("file://localhost/mnt").url == "file:///mnt"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/?region=eu-west-1", "s3://bucket/a/b"),
    ],
)
def test_a_bucket(url: str, shown: str) -> None:
    assert open_backend(url, StoreOptions()).url == shown


def test_the_environment_names_the_endpoint_and_the_region() -> None:
    """The variable for S3 alone wins over the one for all of AWS."""
    env = {"AWS_ENDPOINT_URL": "http://all", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert StoreOptions.from_environment(env).endpoint_url == "http://all"
    assert StoreOptions.from_environment(env).region == "eu-west-1"
    env |= {"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_REGION": "eu-west-2"}
    assert StoreOptions.from_environment(env).endpoint_url == "http://s3"
    assert StoreOptions.from_environment(env).region == "eu-west-2"
    assert StoreOptions.from_environment({}) == StoreOptions()


def test_the_url_wins_over_the_options() -> None:
    options = StoreOptions(endpoint_url="http://a", region="r", addressing="virtual", threads=9)
    assert with_settings("s3://b", "", options) == options
    said = "endpoint=https%3A%2F%2Fb%3A1&region=q&addressing=path"
    assert with_settings("s3://b", said, options) == StoreOptions(
        endpoint_url="https://b:1", region="q", addressing="path", threads=9
    )


def test_a_directory_store_loads_no_s3_library() -> None:
    """It takes 0.3 s and 22 MB that the directory's users need not spend."""
    code = (
        "import sys; from spotwatchd.store.open import open_backend; "
        "open_backend('file:///mnt'); sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
