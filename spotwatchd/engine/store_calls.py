"""People's wishes, carried to a store by a process of its own (store/control.py).

It runs as the user who wished, so what he may do in the store decides; and the daemon loads
no store's library.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from spotwatchd import errors
from spotwatchd.errors import SpotwatchError, StoreUnavailable
from spotwatchd.jobs.spawn import Account

# Starting Python with an S3 library takes a second on a busy machine; a store that needs
# longer than this to answer is away.
LIMIT = 25.0
# A job of a million objects, and the wait for its owner.
LONG = 3600.0


async def store_call(
    who: Account, word: str, store: str, job: str, *options: str, limit: float = LIMIT
) -> dict[str, Any]:
    """Run ``word`` of store/control.py as ``who``; its document.

    Raises:
        SpotwatchError: the class that the process named; StoreUnavailable after ``limit`` s.
    """
    switch = who.uid != os.geteuid()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "spotwatchd.store.control", word, store, job, *options),
            cwd="/",
            env={**os.environ, "HOME": who.home, "USER": who.name, "LOGNAME": who.name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            user=who.uid if switch else None,
            group=who.gid if switch else None,
            extra_groups=list(who.groups) if switch else None,
        )
    except OSError as error:
        raise SpotwatchError(
            f"{who.name} cannot run spotwatchd's Python: {error.strerror}",
            where=sys.executable,
            remedy="install spotwatchd where every user may read it",
        ) from error
    try:
        async with asyncio.timeout(limit):
            out, err = await process.communicate()
    except TimeoutError:
        raise StoreUnavailable(f"no answer within {limit:.0f} s", where=store) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _refusal(err, store)
    document: dict[str, Any] = json.loads(out)
    return document


def _refusal(err: bytes, store: str) -> SpotwatchError:
    lines = err.decode("utf-8", "replace").strip().splitlines()
    try:
        said = json.loads(lines[-1])
        kind = getattr(errors, said["kind"], SpotwatchError)
        found: SpotwatchError = kind(said["what"], where=said["where"], remedy=said["remedy"])
    except (ValueError, KeyError, IndexError, TypeError):
        last = lines[-1] if lines else "it ended without a word"
        return SpotwatchError(f"the look into the store failed: {last}", where=store)
    return found
