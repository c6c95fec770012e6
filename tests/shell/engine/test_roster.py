"""Who may have a job of the store run here: the machine itself, or its own user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from spotwatchd import logs
from spotwatchd.config import Config
from spotwatchd.config.tree import Jobs
from spotwatchd.core.events import Event, JobAdded
from spotwatchd.core.machine import Core, CoreSettings
from spotwatchd.engine.house import House
from spotwatchd.engine.loop import boot_clock
from spotwatchd.engine.offers import Offers, documents
from spotwatchd.engine.receipts import Receipts
from spotwatchd.engine.roster import Roster
from spotwatchd.engine.trust import Refused
from spotwatchd.errors import JobError
from spotwatchd.jobs.launcher import ChildLauncher
from spotwatchd.journal import Journal

# The job's user runs nothing here; never root.
USER = pwd.getpwuid(os.geteuid() or 1)
OTHER = pwd.getpwuid(2)
STORE = "file:///nowhere/store"


class Here:
    """A machine's daemon without its loop: what it would tell the core is kept."""

    def __init__(self, root: Path) -> None:
        self.told: list[Event] = []
        config = Config(
            jobs=Jobs(max_jobs=2),
            allowed_users=(USER.pw_name,),
            checkpoint_root=root / "ckpt",
            runtime_dir=root / "run",
            state_dir=root / "state",
        )
        journal = Journal(root / "journal.db")
        self.house = House(
            config=config,
            machine="here",
            boot_id="boot",
            core=Core(settings=CoreSettings(), first_number=1),
            journal=journal,
            launcher=ChildLauncher(),
            receipts=Receipts(lambda key, doc: journal.post("receipt", key, doc), "here"),
            log=logs.get("test"),
            post=self.told.append,
            clock=boot_clock,
            wall=time.time,
        )
        self.roster = Roster(self.house)
        self.offers = Offers(self.house, self.roster)

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """One turn of the loop, after which nobody wants the jobs: no replicator is started."""
        try:
            yield
        finally:
            for record in self.house.records.values():
                record.kept.ended = True


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """As everywhere, but for the notice board: a small file in memory, made when a job comes."""
    with blockbuster_ctx("spotwatchd") as guard:
        for call in guard.functions.values():
            call.can_block_in("spotwatchd/engine/roster.py", "_enter")
        yield guard


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    """One with nothing on it."""
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    made = Here(root)
    await made.house.journal.open()
    yield made
    await made.roster.close()
    await made.house.journal.close()
    shutil.rmtree(root, ignore_errors=True)


def stored(**changes: Any) -> dict[str, Any]:
    """A job as a look into the store finds it."""
    spec = {
        "version": 1,
        "name": "job",
        "run_id": "r1",
        "argv": ["/bin/true"],
        "cwd": "/usr",
        "user": USER.pw_name,
        "checkpoint_dir": "/nowhere",
        **changes,
    }
    return {"name": "job", "spec": spec, "state": "running"}


async def test_the_machine_itself_and_the_jobs_user_take_it_in(here: Here) -> None:
    """Registered once, as that user, and told to the core; asked again, nothing happens."""
    with here.moment():
        for asker in (USER.pw_uid, 0):
            assert here.roster.take_in(stored(), STORE, asker=asker) == ""
    record = here.house.records["job"]
    assert (record.kept.uid, record.kept.origin) == (USER.pw_uid, USER.pw_name)
    (told,) = here.told
    assert isinstance(told, JobAdded)


async def test_somebody_else_does_not_start_it(here: Here) -> None:
    """A person's word is good for themselves: what they read in a store may be forged."""
    with pytest.raises(Refused, match=f"would not run as the user {OTHER.pw_name}"):
        here.roster.take_in(stored(), STORE, asker=OTHER.pw_uid)
    assert (here.house.records, here.told) == ({}, [])


async def test_somebody_else_does_not_start_it_again(here: Here) -> None:
    """Nor does a forged spec; a job that is over here stays so, with the reason."""
    with here.moment():
        here.roster.take_in(stored(), STORE)
        kept = here.house.records["job"].kept
        kept.ended = True
        with pytest.raises(Refused, match=f"would not run as the user {OTHER.pw_name}"):
            here.roster.take_in(stored(revision=2), STORE, asker=OTHER.pw_uid)
        with pytest.raises(Refused, match="env"):
            here.roster.take_in(stored(revision=2, argv=["/bin/sh"], env=["A=b"]), STORE)
        assert kept.ended
        assert "env" in str(kept.reason)
        assert len(here.told) == 1
        assert here.roster.take_in(stored(revision=2), STORE) == ""
        assert (kept.ended, kept.revision) == (False, 2)


async def test_a_full_machine_says_so(here: Here) -> None:
    """With the setting; it is offered again, and taken in once there is room."""
    with here.moment():
        for name in ("a", "b"):
            here.roster.take_in({**stored(name=name), "name": name}, STORE)
        with pytest.raises(JobError, match="the limit is 2"):
            here.roster.take_in(stored(), STORE)
        here.offers.look([stored()], STORE)
        assert "the limit is 2" in here.house.refused["job"].what
        here.house.records["a"].kept.ended = True
        here.offers.again()
    assert "job" in here.house.records
    assert here.house.refused == {}


async def test_what_cannot_be_read_is_shown_to_root_and_the_daemons_user(here: Here) -> None:
    """As blocked, with what, where and the remedy; not to others; gone once it can be read."""
    problem = {"what": "argv: expected a list", "where": "s", "remedy": "", "again": False}
    with here.moment():
        here.offers.look([{"name": "job", "problem": problem}], STORE)
        (shown,) = documents(here.house, 0)
        assert (shown["name"], shown["state"]) == ("job", "blocked")
        assert "argv: expected a list" in shown["reason"]
        assert shown["remedy"]
        assert documents(here.house, OTHER.pw_uid) == []
        here.offers.look([stored()], STORE)
    assert (here.house.refused, list(here.house.records)) == ({}, ["job"])
