"""What a job's replicator says, turned into events for the core and lines for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spotwatchd.core import events as ev
from spotwatchd.core.words import Outcome, Seal
from spotwatchd.engine import text
from spotwatchd.engine.adopting import adopt
from spotwatchd.engine.broadcast import wall_text
from spotwatchd.engine.house import House
from spotwatchd.engine.policies import policy_of
from spotwatchd.engine.records import Record
from spotwatchd.errors import JobError

Receiver = Callable[[House, Record, dict[str, Any]], None]


def _seal(value: Any) -> Seal | None:
    if value is None:
        return None
    return Seal(str(value["path"]), int(value["step"]), str(value.get("mark", "")))


def receive(house: House, record: Record, message: dict[str, Any]) -> None:
    """Take one event of the replicator's protocol.

    The replicator runs as the job's user, so what it says is checked like any input.

    Raises:
        JobError: it is not one of docs/architecture.md.
    """
    try:
        known = _RECEIVERS[message["event"]]
        known(house, record, message)
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(
            f"not an event of the replicator's protocol: {error!r}",
            where=f"job {record.name}",
            remedy="is the replicator of another version than the daemon? restart both",
        ) from error


def _hello(house: House, record: Record, message: dict[str, Any]) -> None:
    if record.kept.ended:
        record.link.send({"do": "quit"})
        return
    if record.preparing is not None:
        record.preparing.say()
    generation = message["generation"]
    committed, sealed = _seal(message["committed"]), _seal(message["sealed"])
    if committed is not None:
        record.committed_step = committed.step
    house.post(
        ev.ReplicatorUp(
            record.name, None if generation is None else int(generation), committed, sealed
        )
    )
    if isinstance(message.get("wanted"), dict):
        _wanted(house, record, message["wanted"])


def _taken(house: House, record: Record, message: dict[str, Any]) -> None:
    restored = _seal(message["restored"])
    attempts = int(message.get("attempts", 0))
    ended = _ended(message)
    interruption = message.get("interruption")
    if not isinstance(interruption, dict):
        interruption = None  # head is not trusted: what is no receipt is none
    previous = message.get("previous")
    if isinstance(message.get("spec"), dict) and not ended:
        before = policy_of(record.kept, house.config)
        try:
            adopt(record.kept, message["spec"], house.config)
        except JobError as error:
            _turn_down(house, record, message, error)
            return
        now = policy_of(record.kept, house.config)
        if now != before:
            house.post(ev.JobAdded(record.name, now))
        house.keep(record)
    record.restored, record.taken = restored, True
    if not record.managed:  # nobody here starts it, so this is where its attempt begins
        record.kept.attempt = attempts
        record.cause = "first" if restored is None and attempts <= 1 else "interruption"
        record.awaiting_first_step = True
    record.kept.reason = None
    if restored is not None:
        record.committed_step = record.step = restored.step
    if interruption is not None:
        house.receipts.arrived(record.name, interruption)
        house.receipts.mark(record.name, "restored", "" if restored is None else restored.path)
        previous = previous or interruption.get("machine")
    elif previous and message.get("unannounced"):
        house.receipts.unannounced(record.name, previous, restored.step if restored else None)
    event = ev.Taken(
        record.name,
        int(message["no"]),
        int(message["generation"]),
        restored,
        attempts,
        int(message.get("crashes", 0)),
        ended,
    )
    if not ended:
        step = None if restored is None else restored.step
        line = text.taken(attempts, machine=house.machine, previous=previous)
        house.tell(record, "taken", line, step=step, attempt=attempts)
    house.post(event)


def _turn_down(house: House, record: Record, message: dict[str, Any], error: JobError) -> None:
    """It is not to be run here: another machine may have the lease."""
    reason = f"{error.what}; {error.remedy}" if error.remedy else error.what
    _take_failed(house, record, {"no": message["no"], "reason": reason})
    interruption = message.get("interruption")
    record.link.send(
        {
            "do": "release",
            "no": int(message["no"]),
            "outcome": "preempted",
            "crashes": int(message.get("crashes", 0)),
            "interruption": interruption if isinstance(interruption, dict) else None,
        }
    )


def _prepared(_house: House, record: Record, message: dict[str, Any]) -> None:
    if record.preparing is not None:
        record.preparing.receive(message)


def _take_waiting(house: House, record: Record, message: dict[str, Any]) -> None:
    name = str(message.get("owner") or "another machine")
    record.kept.reason = f"waits for the lease of {name}"
    house.post(ev.TakeWaits(record.name, int(message["no"])))
    house.tell(record, "waiting", owner=name, seconds=float(message.get("seconds", 0.0)))


def _watched(house: House, record: Record, message: dict[str, Any]) -> None:
    no, elsewhere = int(message["no"]), bool(message["elsewhere"])
    house.post(ev.Watched(record.name, no, elsewhere, _ended(message)))


def _ended(message: dict[str, Any]) -> str:
    """How head says that it ended, "" when it is to be run."""
    found = str(message.get("ended") or "")
    return found and Outcome(found).value


def _take_failed(house: House, record: Record, message: dict[str, Any]) -> None:
    reason = str(message["reason"])
    record.kept.reason = reason
    house.tell(record, "take_failed", reason)
    house.post(ev.TakeFailed(record.name, int(message["no"]), reason))


def _uploaded(house: House, record: Record, message: dict[str, Any]) -> None:
    record.upload_bytes, record.upload_seconds = int(message["size"]), float(message["seconds"])
    sent = message.get("sent")
    house.post(
        ev.Uploaded(
            record.name,
            int(message["no"]),
            record.upload_bytes,
            record.upload_seconds,
            None if sent is None else int(sent),
        )
    )


def _progress(house: House, record: Record, message: dict[str, Any]) -> None:
    no, sent, size = int(message["no"]), int(message["sent"]), int(message["size"])
    house.post(ev.Progress(record.name, no, sent, size))


def _growing(house: House, record: Record, message: dict[str, Any]) -> None:
    house.post(ev.Growing(record.name, int(message["sent"]), int(message["size"])))


def _failed(kind: type[ev.UploadFailed | ev.CommitFailed]) -> Receiver:
    def receive_failure(house: House, record: Record, message: dict[str, Any]) -> None:
        reason, final = str(message["reason"]), bool(message.get("final"))
        record.kept.reason = reason
        house.post(kind(record.name, int(message["no"]), reason, final=final))

    return receive_failure


def _committed(house: House, record: Record, message: dict[str, Any]) -> None:
    seal = _seal(message["seal"])
    if seal is None:
        raise ValueError("seal is missing")
    record.committed_at = wall_text(house.wall())
    record.kept.reason = None
    house.post(ev.Committed(record.name, int(message["no"]), seal, str(message["checkpoint_id"])))
    record.committed_step = seal.step
    if not record.kept.told:
        line = text.committed(seal.step, record.upload_bytes, record.upload_seconds, None)
        house.tell(record, "committed", line, step=seal.step)


def _released(house: House, record: Record, message: dict[str, Any]) -> None:
    record.taken = False
    house.post(ev.Released(record.name, int(message["no"])))


def _release_failed(house: House, record: Record, message: dict[str, Any]) -> None:
    house.post(ev.ReleaseFailed(record.name, int(message["no"]), str(message["reason"])))


def _lost(house: House, record: Record, message: dict[str, Any]) -> None:
    reason = str(message["reason"])
    record.taken = False
    house.tell(record, "lost", f"the lease is lost: {reason}; the job is stopped here")
    house.post(ev.LeaseLost(record.name, reason))


def _sealed(house: House, record: Record, message: dict[str, Any]) -> None:
    seal = _seal(message["seal"])
    if seal is None:
        raise ValueError("seal is missing")
    house.post(ev.Sealed(record.name, seal))


def _wanted(house: House, record: Record, message: dict[str, Any]) -> None:
    """Somebody, on whatever machine, wants the job to stop."""
    if message["state"] not in ("stopped", "removed"):
        raise ValueError("state: stopped or removed")
    if record.told_stop:
        return
    record.told_stop = True
    save = bool(message.get("save", True))
    by = " ".join(str(message.get(key) or "")[:100] for key in ("by", "at")).strip()
    how = "" if save else " without saving"
    house.tell(record, "wanted", f"asked to stop{how} by {by or 'somebody'}")
    house.post(ev.StopRequested(record.name, save))


def _alarm(house: House, record: Record, message: dict[str, Any]) -> None:
    what, where = str(message["what"]), str(message.get("where", ""))
    remedy = str(message.get("remedy", ""))
    record.kept.reason = what
    if not house.is_news(record, what):
        return
    house.log.warning(what, job=record.name, where=where, fix=remedy)
    record.events.send(
        {"event": "alarm", "job": record.name, "line": what, "where": where, "remedy": remedy}
    )


def _said(house: House, record: Record, message: dict[str, Any]) -> None:
    house.tell(record, "said", str(message["line"])[:500])


_RECEIVERS = {
    "hello": _hello,
    "taken": _taken,
    "prepared": _prepared,
    "blocked": _prepared,
    "take_waiting": _take_waiting,
    "take_failed": _take_failed,
    "watched": _watched,
    "uploaded": _uploaded,
    "progress": _progress,
    "growing": _growing,
    "upload_failed": _failed(ev.UploadFailed),
    "committed": _committed,
    "commit_failed": _failed(ev.CommitFailed),
    "released": _released,
    "release_failed": _release_failed,
    "lost": _lost,
    "sealed": _sealed,
    "alarm": _alarm,
    "said": _said,
    "wanted": _wanted,
}
