"""A conditional write whose answer is lost has happened or has not; nobody guesses."""

from __future__ import annotations

import pytest

from spotwatchd.core.lease import Owner, Terms
from spotwatchd.errors import Conflict, LeaseLost, StoreUnavailable
from spotwatchd.store.leasing import Leasing, Waiting
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from spotwatchd.store.swap import swap
from tests.servers.proxy import Fault, Proxy
from tests.servers.seaweed import Seaweed
from tests.shell.store_protocol.conftest import Store

KEY = "job/head.json"


@pytest.mark.parametrize("kind", ["lose", "cut"])
def test_an_answer_that_got_lost_is_found_in_the_store(
    seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions, kind: str
) -> None:
    """The write counts, and its version is good for the next one."""
    with Proxy(seaweed.port) as proxy:
        backend = open_backend(f"s3://{s3_prefix}?endpoint={proxy.endpoint}", aws_environment)
        proxy.add(Fault(kind, method="PUT"))  # type: ignore[arg-type]
        version = swap(backend, KEY, b"mine", None, lambda body: body == b"mine")
        backend.write_document(KEY, b"next", version)


def test_a_request_that_got_lost_is_no_success(
    seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions
) -> None:
    """Nothing is there, so nobody knows: the caller tries again."""
    with Proxy(seaweed.port) as proxy:
        backend = open_backend(f"s3://{s3_prefix}?endpoint={proxy.endpoint}", aws_environment)
        proxy.add(Fault("drop", method="PUT"))
        with pytest.raises(StoreUnavailable):
            swap(backend, KEY, b"mine", None, lambda body: body == b"mine")
        assert backend.read_document(KEY) is None


def test_somebody_elses_write_is_a_conflict(store: Store) -> None:
    """What is there is not ours: lost."""
    store.backend.write_document(KEY, b"other", None)
    with pytest.raises(Conflict):
        swap(store.backend, KEY, b"mine", None, lambda body: body == b"mine")


def leasing(store: Store, machine: str, seconds: float = 30.0) -> Leasing:
    """One machine's part in the lease of "job"."""
    return Leasing(store.backend, "job", Owner(machine, "boot"), Terms.of(seconds))


def test_a_lease_is_taken_renewed_and_given_back(store: Store) -> None:
    """The next owner takes it at once, with the next generation; the first one is out."""
    a, b = leasing(store, "a"), leasing(store, "b")
    a.try_take(lambda generation: generation + 1)
    a.renew()
    assert a.valid()
    assert isinstance(b.try_take(lambda generation: generation + 1), Waiting)
    a.give_back()
    assert not a.valid()
    b.try_take(lambda generation: generation + 1)
    assert b.held().generation == 2
    with pytest.raises(LeaseLost):
        a.held()


def test_an_expired_lease_that_nobody_took_is_renewed(directory: Store) -> None:
    """Expiry alone ends nothing; another owner does."""
    a, b = leasing(directory, "a", 0.2), leasing(directory, "b", 0.2)
    a.try_take(lambda generation: generation + 1)
    while a.valid():
        pass  # a fifth of a second
    a.renew()
    assert a.valid()
    while isinstance(b.try_take(lambda generation: generation + 1), Waiting):
        pass  # another one
    with pytest.raises(LeaseLost):
        a.renew()
    assert not a.valid()
    assert b.valid()
