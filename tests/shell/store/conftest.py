"""The two stores, and files to put into them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from spotwatchd.store.base import Backend
from spotwatchd.store.checksum import crc64nvme_of_file
from spotwatchd.store.init import init_store
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.patience import Patience
from spotwatchd.store.shipping import Outgoing, Shipped, ship
from spotwatchd.store.swap import boottime
from tests.servers.fixtures import aws_environment, s3_prefix, seaweed
from tests.servers.proxy import Proxy
from tests.servers.seaweed import Seaweed

__all__ = ["aws_environment", "s3_prefix", "seaweed"]


@dataclass(frozen=True)
class Local:
    """A file on the local disk with its true size and checksum."""

    path: Path
    size: int
    crc: int


def send(store: Backend, key: str, local: Local, seconds: float = 50.0) -> Shipped:
    """One file to the store, as the daemon's replicator sends it."""
    file = Outgoing(key, local.path, local.path.name, local.size)
    (shipped,) = ship(store, [file], Patience(boottime() + seconds))
    return shipped


@pytest.fixture
def local(tmp_path: Path) -> Callable[[int], Local]:
    """Makes files of a given size with reproducible random bytes."""

    def make(size: int) -> Local:
        path = tmp_path / f"local-{size}"
        path.write_bytes(random.Random(size).randbytes(size))
        return Local(path, *crc64nvme_of_file(path))

    return make


@pytest.fixture
def directory(tmp_path: Path) -> Backend:
    """A directory store, initialised."""
    (tmp_path / "store").mkdir()
    init_store(f"file://{tmp_path}/store")
    return open_backend(f"file://{tmp_path}/store")


@pytest.fixture
def s3(seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions) -> Backend:
    """A store in SeaweedFS."""
    return open_backend(f"s3://{s3_prefix}?endpoint={seaweed.endpoint}", aws_environment)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest) -> Backend:
    """Each kind of store in turn."""
    backend: Backend = request.getfixturevalue(request.param)
    return backend


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[Proxy]:
    """A faulty proxy in front of SeaweedFS."""
    with Proxy(seaweed.port) as running:
        yield running


@pytest.fixture
def proxied(proxy: Proxy, s3_prefix: str, aws_environment: StoreOptions) -> Backend:
    """A store in SeaweedFS behind the proxy, with time-outs of one second."""
    options = replace(
        aws_environment, endpoint_url=proxy.endpoint, connect_timeout=1.0, read_timeout=1.0
    )
    return open_backend(f"s3://{s3_prefix}", options)
