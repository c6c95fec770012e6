"""What every test runs under: no blocking call in the event loop, and known random examples."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# No deadline: two busy cores make one example slow, not wrong.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=100, derandomize=False, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("long", max_examples=2000, derandomize=False, **_COMMON)  # type: ignore[arg-type]
# Repeatable and short, for runs that are expected to fail (tests/core/test_planted_faults.py).
settings.register_profile("planted-faults", max_examples=300, derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root, tests that need it are left out by name, and the summary says how many."""
    if os.geteuid() == 0:
        return
    needing = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if item not in needing]
    config.hook.pytest_deselected(items=needing)


def pytest_report_header() -> str:
    """Which half of the suite this is."""
    if os.geteuid() == 0:
        return "user: root; every test is run"
    return "user: not root; tests marked 'root' are left out: run the suite as root for them"


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """A call in our code that blocks the event loop raises BlockingError.

    Calls made by a test's own body are not ours and pass; so does everything that
    runs in a thread, where no loop is running.
    """
    with blockbuster_ctx("spotwatchd") as guard:
        yield guard


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A temporary directory with a short path: a Unix socket's may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="sw-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition, e.g. ``until(lambda: path.exists(), "the file is there")``."""

    def wait(condition: Callable[[], bool], what: str, limit: float = 20.0) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"not within {limit:g} s: {what}"
            time.sleep(0.01)

    return wait
