"""From a URL to a backend.

    file:///mnt/efs/spotwatch
    s3://bucket/prefix
    s3://bucket/prefix?endpoint=http://127.0.0.1:8333&region=eu-west-1&addressing=path

What the URL says wins over the options, and those over the environment, so that one
machine can use several stores.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from spotwatchd.errors import ConfigError
from spotwatchd.store.base import Backend
from spotwatchd.store.directory import DirectoryBackend
from spotwatchd.store.keys import check_key
from spotwatchd.store.options import Addressing, StoreOptions

__all__ = ["StoreOptions", "directory_of", "is_directory_url", "open_backend"]

EXAMPLES = "file:///mnt/efs/spotwatch or s3://bucket/prefix"
_SETTINGS = ("endpoint", "region", "addressing")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_backend(url: str, options: StoreOptions | None = None) -> Backend:
    """The backend for a store's URL. Asks the store nothing. Raises ConfigError.

    Args:
        url: see the head of this file.
        options: None reads them from the environment.
    """
    parts = _split(url)
    if parts.scheme == "file":
        return DirectoryBackend(directory_of(url), f"file://{parts.path.rstrip('/')}")
    return _open_s3(url, parts, options or StoreOptions.from_environment())


def directory_of(url: str) -> Path:
    """The absolute path that a ``file:`` URL names. Raises ConfigError."""
    parts = _split(url)
    if parts.netloc not in {"", "localhost"}:
        raise _refused(url, f"file URLs name no host: file:///{parts.netloc}{parts.path}")
    if parts.query or parts.fragment:
        raise _refused(url, "a directory has no settings: leave out what follows ? or #")
    path = unquote(parts.path)
    if not path.strip("/") or "\0" in path or ".." in path.split("/"):
        raise _refused(url, "give an absolute path of a directory, without '..'")
    return Path("/" + path.strip("/"))


def is_directory_url(url: str) -> bool:
    """Whether the URL is a directory's. Raises ConfigError for what is no store's URL."""
    return _split(url).scheme == "file"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _refused(url, f"{error}; a store is {EXAMPLES}") from None
    if "@" in parts.netloc:
        raise ConfigError(
            "the store's URL contains credentials",
            where=f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}",
            remedy="use an instance profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if url.startswith(("/", ".")):
        raise _refused(url, f"write a directory as a URL: file://{os.path.abspath(url)}")  # noqa: PTH100 - resolve() would follow links
    if parts.scheme not in {"file", "s3"}:
        raise _refused(url, f"a store is {EXAMPLES}")
    return parts


def _open_s3(url: str, parts: SplitResult, options: StoreOptions) -> Backend:
    # Loading the S3 library takes 0.3 s, and a directory store never needs it.
    from spotwatchd.store.s3 import Caller
    from spotwatchd.store.s3backend import S3Backend

    if not _BUCKET.fullmatch(parts.netloc):
        raise _refused(url, "a bucket's name has 3 to 63 of a-z, 0-9, '.', '-': s3://bucket/prefix")
    if parts.fragment:
        raise _refused(url, "write '#' in a prefix as %23")
    prefix = unquote(parts.path).strip("/")
    try:
        prefix = check_key(prefix) if prefix else ""
    except ValueError as error:
        raise _refused(url, str(error)) from None
    settings = with_settings(url, parts.query, options)
    caller = Caller(parts.netloc, f"{prefix}/" if prefix else "", settings)
    return S3Backend(caller, settings)


def with_settings(url: str, query: str, options: StoreOptions) -> StoreOptions:
    """The options with those that a URL's query names replaced. Raises ConfigError."""
    settings = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise _refused(url, f"unknown {unknown[0]!r} after '?': known are {', '.join(_SETTINGS)}")
    empty = sorted(name for name, value in settings.items() if not value)
    if empty:
        raise _refused(url, f"{empty[0]!r} after '?' has no value")
    endpoint = settings.get("endpoint", options.endpoint_url)
    _check_endpoint(url, endpoint)
    return replace(
        options,
        endpoint_url=endpoint,
        region=settings.get("region", options.region),
        addressing=_addressing(url, settings.get("addressing", options.addressing)),
    )


def _addressing(url: str, value: str) -> Addressing:
    for known in get_args(Addressing):
        if value == known:
            return cast("Addressing", known)
    raise _refused(url, f"addressing is one of {', '.join(get_args(Addressing))}")


def _check_endpoint(url: str, endpoint: str | None) -> None:
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise _refused(url, f"the endpoint {endpoint!r} is no http(s)://host:port")


def _refused(url: str, remedy: str) -> ConfigError:
    return ConfigError("not a store's URL", where=repr(url), remedy=remedy)
