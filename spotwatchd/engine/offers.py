"""Jobs that the store offers and this machine may not run: refused, said, looked at again."""

from __future__ import annotations

import os
from typing import Any

from spotwatchd.engine.house import House
from spotwatchd.engine.roster import Roster
from spotwatchd.engine.text import to_go_on
from spotwatchd.engine.trust import Refused, read, unreadable
from spotwatchd.errors import SpotwatchError

Document = dict[str, Any]

# No more is remembered of a store that somebody fills with rubbish.
_MOST = 200


class Offers:
    """What became of each job that a look into the store found."""

    def __init__(self, house: House, roster: Roster) -> None:
        self._house = house
        self._roster = roster
        self._store = ""
        self._waiting: dict[str, Document] = {}

    def look(self, found: list[Document], store: str) -> None:
        """Take in what may run here; say what may not, once while it stays so."""
        before, self._house.refused = self._house.refused, {}
        self._store = store
        self._waiting = {}
        self._house.elsewhere = {}
        for stored in found:
            self._offer(stored, before)

    def again(self) -> None:
        """Look again at those that lack something on this machine: no store is asked."""
        before, waiting = dict(self._house.refused), self._waiting
        self._waiting = {}
        for name, stored in waiting.items():
            self._house.refused.pop(name, None)
            self._offer(stored, before)

    def _offer(self, stored: Document, before: dict[str, SpotwatchError]) -> None:
        name = str(stored.get("name"))[:64]
        try:
            if "problem" in stored:
                raise unreadable(name, stored["problem"])
            if self._roster.take_in(stored, self._store) and len(self._house.elsewhere) < _MOST:
                self._house.elsewhere[name] = _for_others(stored, self._store)
        except SpotwatchError as error:
            known = before.get(name)
            if known is None or known.what != error.what:
                self._house.log.warning(error.what, job=name, where=error.where, fix=error.remedy)
            if len(self._house.refused) < _MOST:
                self._house.refused[name] = error
            if not isinstance(error, Refused) or error.waits:
                self._waiting[name] = stored


def _for_others(stored: Document, store: str) -> Document:
    """For ``status``: a job that waits for whoever started it. Raises Refused."""
    body = read(stored, store)  # held to the rules of the socket: it is shown on terminals
    left = stored.get("state") == "interrupted"
    return {
        **_NOTHING,
        "name": body.name,
        "state": "interrupted" if left else "queued",
        "reason": "left by its machine" if left else "runs elsewhere, or its machine is gone",
        "remedy": to_go_on(body, store),
        "resume_command": body.resume_command,
        "store": store,
        "run_id": body.run_id,
    }


def documents(house: House, uid: int) -> list[Document]:
    """Refused jobs for ``status``: only for root and the daemon's own user."""
    if uid not in (0, os.geteuid()):
        return []
    return [each for name, each in house.elsewhere.items() if name not in house.records] + [
        {**_NOTHING, "name": name, "reason": error.what, "remedy": error.remedy}
        for name, error in house.refused.items()
        if name not in house.records
    ]


# The fields of a job's document (desk.py), for one that has no record here.
_NOTHING: Document = {
    "state": "blocked",
    "life": None,
    "outcome": None,
    "exit_status": None,
    "attempt": 0,
    "step": None,
    "sealed_step": None,
    "committed_step": None,
    "committed_at": None,
    "next_save_seconds": None,
    "processes": 0,
    "store": None,
    "checkpoint_dir": None,
    "inside": None,
    "output": None,
    "gpus": None,
    "gpus_wanted": None,
    "priority": 0,
    "run_id": None,
    "uid": None,
    "resume_command": None,
}
