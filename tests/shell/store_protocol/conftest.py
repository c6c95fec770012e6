"""Stores and machines for the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spotwatchd.store.base import Backend
from spotwatchd.store.init import init_store
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from tests.servers.fixtures import aws_environment, s3_prefix, seaweed
from tests.servers.seaweed import Seaweed
from tests.shell.store_protocol.machine import Machine

__all__ = ["aws_environment", "s3_prefix", "seaweed"]

MakeMachine = Callable[..., Machine]


@dataclass(frozen=True)
class Store:
    """A store by URL (for replicators) and opened (for the test)."""

    url: str
    backend: Backend


@pytest.fixture
def directory(tmp_path: Path) -> Store:
    """A directory store."""
    root = tmp_path / "store"
    root.mkdir()
    url = f"file://{root}"
    init_store(url)
    return Store(url, open_backend(url))


@pytest.fixture
def s3(seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions) -> Store:
    """A store in SeaweedFS; replicators find it through their environment."""
    url = f"s3://{s3_prefix}?endpoint={seaweed.endpoint}&region=us-east-1"
    return Store(url, open_backend(url, aws_environment))


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each kind of store in turn."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[MakeMachine]:
    """Makes machines; whatever still runs on them at the end is killed."""
    made: list[Machine] = []

    def make(store: Store, name: str = "a", **settings: Any) -> Machine:
        made.append(Machine(tmp_path, store.url, name, **settings))
        return made[-1]

    yield make
    for machine in made:
        machine.close()
