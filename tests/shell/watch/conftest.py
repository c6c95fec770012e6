"""Real sockets, small periods, and nothing may block the loop."""

from collections.abc import AsyncIterator, Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from spotwatchd.testing import FakeIMDS


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """A blocking call inside a running loop fails the test."""
    with blockbuster_ctx() as blockbuster:
        yield blockbuster


@pytest.fixture
async def imds() -> AsyncIterator[FakeIMDS]:
    """A fake metadata service."""
    async with FakeIMDS() as fake:
        yield fake
