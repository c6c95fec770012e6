"""Parsing: pure, exact, and proof against any bytes."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotwatchd.core.words import MachineAction
from spotwatchd.watch import parse

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc).timestamp()


def test_the_documented_notice_is_understood() -> None:
    """The body of the EC2 user guide."""
    got = parse.instance_action(b'{"action": "stop", "time": "2026-11-21T12:00:00Z"}')
    assert got == parse.SpotAction(MachineAction.STOP, "2026-11-21T12:00:00Z", NOON)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T12:00:00Z", 0.0),
        ("2026-11-21T12:00:00.5Z", 0.5),
        ("2026-11-21T12:00:00.123456789Z", 0.123456),
        ("2026-11-21T13:00:00+01:00", 0.0),
    ],
)
def test_rfc3339(text: str, seconds: float) -> None:
    """Fractions and offsets are allowed though EC2 writes neither."""
    assert parse.rfc3339(text) == pytest.approx(NOON + seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "",
        "2026-11-21",
        "2026-11-21T12:00:00",
        "2026-11-21 12:00:00Z",
        "20261121T120000Z",
        "2026-13-41T25:61:61Z",
        "2026-W47-6T12:00:00Z",
        "2026-11-21T12:00:00Z\n",
        "\u0662\u0660\u0662\u0666-11-21T12:00:00Z",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_what_is_not_a_time_is_garbage_or_a_number(text: str) -> None:
    """No guess about zones or formats."""
    if text.startswith("0001"):
        assert parse.rfc3339(text) < 0
        return
    with pytest.raises(parse.Garbage, match="is not a time"):
        parse.rfc3339(text)


@pytest.mark.parametrize("text", ["Sat, 21 Nov 2026 12:00:00 GMT", "21 Nov 2026 12:00:00 GMT"])
def test_gmt_reads_the_date_header_and_not_before(text: str) -> None:
    """One form for both."""
    assert parse.gmt(text) == NOON


@pytest.mark.parametrize("text", ["", "21 Nov 2026", "21 Foo 2026 12:00:00 GMT", "whenever"])
def test_other_dates_are_garbage(text: str) -> None:
    """Also obsolete forms of RFC 850: EC2 does not send them."""
    with pytest.raises(parse.Garbage):
        parse.gmt(text)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b'{"action": "terminate"}', "time is missing"),
        (b'{"action": "terminate", "time": 5}', "time is 5, not a time"),
        (b'{"action": "terminate", "time": "soon"}', "'soon' is not a time"),
        (b'{"time": "2026-11-21T12:00:00Z"}', "action is None"),
        (b'{"action": ["stop"], "time": "2026-11-21T12:00:00Z"}', "not a text"),
        (b"[" * 60_000, "not JSON"),
        (b"9" * 60_000, "not JSON"),
    ],
)
def test_garbage_says_what_is_wrong(body: bytes, why: str) -> None:
    """The text goes into the status, so it names the fault and stays short."""
    with pytest.raises(parse.Garbage, match=why) as caught:
        parse.instance_action(body)
    assert len(str(caught.value)) < 100
    assert str(caught.value).isascii()


def test_an_unknown_action_with_a_time_is_terminate() -> None:
    """The worst case, with the word quoted."""
    got = parse.instance_action(b'{"action": "\\ud800!", "time": "2026-11-21T12:00:00Z"}')
    assert got.action is MachineAction.TERMINATE
    assert got.unknown == "'\\ud800!'"


def event(**changes: object) -> str:
    """An event of the EC2 user guide."""
    entry = {
        "NotBefore": "21 Nov 2026 12:00:00 GMT",
        "Code": "system-reboot",
        "EventId": "instance-event-0d59937288b749b32",
        "State": "active",
        **changes,
    }
    return json.dumps(entry)


def test_scheduled_events_come_earliest_first_and_active_only() -> None:
    """Completed and cancelled ones are history."""
    late = event(NotBefore="22 Nov 2026 12:00:00 GMT", Code="instance-stop")
    body = f"[{late}, {event(State='completed')}, {event()}]".encode()
    events, wrong = parse.scheduled_events(body)
    assert [entry.action for entry in events] == [MachineAction.REBOOT, MachineAction.STOP]
    assert wrong == ""


@pytest.mark.parametrize(
    "bad",
    [
        "7",
        event(NotBefore="tomorrow"),
        event(NotBefore=None),
        event(Code=3),
        event(Code="a\nb"),
    ],
)
def test_one_bad_event_hides_no_other(bad: str) -> None:
    """The rest of the list counts, and what was wrong is told."""
    events, wrong = parse.scheduled_events(f"[{bad}, {event()}]".encode())
    assert len(events) == 1
    assert wrong


def test_an_event_without_an_id_gets_one() -> None:
    """Made of code and time, so that it stays the same from poll to poll."""
    events, _ = parse.scheduled_events(f"[{event(EventId=None)}]".encode())
    assert "system-reboot" in events[0].event_id


@pytest.mark.parametrize("body", [b"InService", b"Warmed:Stopped\n"])
def test_lifecycle_states(body: bytes) -> None:
    """The word as it is, without the newline."""
    assert parse.lifecycle_state(body) == body.decode().strip()


PARSERS: list[Callable[[bytes], object]] = [
    parse.instance_action,
    parse.rebalance,
    parse.scheduled_events,
    parse.lifecycle_state,
    parse.word,
    parse.token,
]

# JSON that looks right goes deeper than random bytes do.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(["action", "time", "noticeTime", "NotBefore", "Code", "EventId", "State"])
TEXTS = st.sampled_from(
    ["terminate", "active", "system-reboot", "2026-11-21T12:00:00Z", "21 Nov 2026 12:00:00 GMT"]
) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*)?(Z|[+-]\d\d:\d\d)", fullmatch=True)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Documents with the right names and any values."""
    entry = st.dictionaries(FIELDS, TEXTS | VALUES)
    text = json.dumps(draw(entry | st.lists(entry)))
    return text.encode("utf-8", "surrogatepass")


def complaint(parser: Callable[[Any], object], value: object) -> str:
    """The text of the Garbage, or "" for a value; anything else is raised."""
    try:
        parser(value)
    except parse.Garbage as error:
        return str(error)
    return ""


def check(body: bytes) -> None:
    """Every parser gives a value or a short ASCII complaint."""
    for parser in PARSERS:
        text = complaint(parser, body)
        assert text.isascii()
        assert len(text) < 200


# Twenty bodies are cut out of one drawn block: drawing each by itself takes minutes.
@settings(max_examples=500, deadline=None)
@given(block=st.binary(min_size=20, max_size=1000))
def test_no_bytes_raise_anything_but_garbage(block: bytes) -> None:
    """Ten thousand bodies through every parser."""
    size = len(block) // 20
    for start in range(0, 20 * size, size):
        check(block[start : start + size])


@settings(max_examples=500, deadline=None)
@given(body=documents())
def test_no_document_raises_anything_but_garbage(body: bytes) -> None:
    """The right names with the wrong values."""
    check(body)


@settings(max_examples=500, deadline=None)
@given(text=st.text() | TEXTS)
def test_no_text_breaks_the_date_parsers(text: str) -> None:
    """A number, or the complaint that it is none."""
    for parser in (parse.gmt, parse.rfc3339):
        assert complaint(parser, text) in ("", f"{parse.quote(text)} is not a time")
