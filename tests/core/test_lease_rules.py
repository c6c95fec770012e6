"""The arithmetic of a lease, with exact times."""

from __future__ import annotations

from spotwatchd.core.lease import Lease, Owner, Tenure, Terms, at_once, look, may_take

TERMS = Terms.of(30.0)
OWNER = Owner("m1", "boot-1", "host")


def test_a_taker_waits_for_the_whole_duration_on_its_own_clock() -> None:
    """From the first sight of a nonce; not a moment less."""
    seen = look(None, "nonce", 30.0, 100.0)
    assert not may_take(seen, 129.999)
    assert may_take(seen, 130.0)


def test_a_renewal_begins_the_wait_anew() -> None:
    """Another nonce is another sighting; the same one is not."""
    seen = look(None, "first", 30.0, 100.0)
    assert look(seen, "first", 30.0, 125.0) is seen
    renewed = look(seen, "second", 30.0, 125.0)
    assert not may_take(renewed, 154.0)
    assert may_take(renewed, 155.0)


def test_a_holder_stops_counting_on_it_before_a_taker_may_take_it() -> None:
    """It counts from when the renewal was sent, and gives up a margin early."""
    tenure = Tenure(1, "token").renewed(100.0)
    assert TERMS.margin == 4.0
    assert tenure.valid(125.999, TERMS)
    assert not tenure.valid(126.0, TERMS)
    assert not Tenure(1, "token").valid(0.0, TERMS)


def test_an_answer_out_of_order_shortens_nothing() -> None:
    """A renewal sent earlier, answered later, does not take time away."""
    assert Tenure(1, "token").renewed(110.0).renewed(100.0).sent_at == 110.0


def test_what_is_taken_at_once() -> None:
    """Given back, or this machine's own from an earlier boot; never a live process's."""
    held = Lease("job", OWNER, 1, 30.0, "nonce", held=True)
    assert not at_once(held, OWNER)
    assert at_once(held, Owner("m1", "boot-2", "host"))
    assert not at_once(held, Owner("m2", "boot-2", "host"))
    assert at_once(Lease("job", OWNER, 1, 30.0, "nonce", held=False), OWNER)
