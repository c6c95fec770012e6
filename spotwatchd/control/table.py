"""The routes: the one table that the server dispatches by and the document is made from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from spotwatchd.control.bodies import (
    ControlBody,
    FinishBody,
    InterruptBody,
    JobBody,
    LogBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)
from spotwatchd.control.desk import Document
from spotwatchd.control.routes import Answer, Call, ReplicatorEvent, Route, taken

_JOB = "/v1/jobs/{name}"


async def _status(call: Call) -> Answer:
    return Answer(200, await call.desk.status(call.caller.uid))


async def _receipts(call: Call) -> Answer:
    return Answer(200, await call.desk.receipts(call.caller.uid))


async def _openapi(call: Call) -> Answer:
    return Answer(200, call.api())


async def _jobs(call: Call) -> Answer:
    return Answer(200, (await call.desk.status(call.caller.uid))["jobs"])


async def _job(call: Call) -> Answer:
    return Answer(200, await call.desk.job(call.name))


async def _submit(call: Call) -> Answer:
    body = cast(JobBody, call.body)
    uid = call.caller.uid
    if call.caller.only is not None:  # registered long ago, or there would be no such socket
        return Answer(200, await call.desk.job(body.name))
    with call.claims.claim(body.name, uid):
        if call.desk.owner(body.name) not in (None, uid):
            raise taken(body.name)
        document, new = await call.desk.submit(call.caller.peer(), body)
    return Answer(201 if new else 200, document)


async def _join(call: Call) -> Answer:
    peer, pidfd = call.caller.pidfd()
    return Answer(201, await call.desk.join(peer, pidfd, call.name, call.body))


async def _seal(call: Call) -> Answer:
    return Answer(202, await call.desk.seal(call.name, call.body))


async def _progress(call: Call) -> Answer:
    return Answer(200, await call.desk.progress(call.name, call.body))


async def _finish(call: Call) -> Answer:
    return Answer(200, await call.desk.finish(call.name, call.body))


async def _ask(call: Call) -> Answer:
    return Answer(202, await call.desk.ask(call.name))


async def _stop(call: Call) -> Answer:
    return Answer(202, await call.desk.stop(call.name))


async def _control(call: Call) -> Answer:
    return Answer(200, await call.desk.control(call.caller.peer(), call.body))


async def _log(call: Call) -> Answer:
    return Answer(200, await call.desk.log(call.name, call.body))


async def _interrupt(call: Call) -> Answer:
    return Answer(202, await call.desk.interrupt(call.body))


async def _replicator_event(call: Call) -> Answer:
    return Answer(200, await call.desk.replicator_event(call.name, call.body))


def _events(call: Call) -> AsyncIterator[Document]:
    return call.desk.events(call.name)


def _commands(call: Call) -> AsyncIterator[Document]:
    return call.desk.replicator_commands(call.name)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/v1/status",
        "Watch, store, interruption and your jobs",
        act=_status,
        answers=((200, "The status as your uid may see it."),),
    ),
    Route(
        "GET",
        "/v1/receipts",
        "Receipts of interruptions, newest first",
        act=_receipts,
        answers=((200, "A list of receipts, cut to what your uid may see."),),
    ),
    Route(
        "GET",
        "/v1/openapi.json",
        "This document",
        act=_openapi,
        answers=((200, "OpenAPI 3.1."),),
        inside=True,
    ),
    Route(
        "GET",
        "/v1/jobs",
        "Your jobs",
        act=_jobs,
        answers=((200, "A list of jobs; root sees all."),),
    ),
    Route(
        "POST",
        "/v1/jobs",
        "Register a job",
        act=_submit,
        body=JobBody,
        answers=((201, "Registered."), (200, "It was registered already.")),
        refusals=(409,),
        limit="body_bytes",
        inside=True,
    ),
    Route("GET", _JOB, "One job", act=_job, answers=((200, "The job."),), inside=True),
    Route(
        "POST",
        _JOB + "/processes",
        "Register the calling process",
        act=_join,
        body=ProcessBody,
        answers=((201, "Registered: its notice board and what to resume from."),),
        refusals=(410,),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/checkpoints",
        "A save begins, or a checkpoint is sealed",
        act=_seal,
        body=SealBody,
        answers=((202, "Noted; it is committed later."),),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/progress",
        "The step that training has reached",
        act=_progress,
        body=ProgressBody,
        answers=((200, "Noted."),),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/finish",
        "The job is really done",
        act=_finish,
        body=FinishBody,
        answers=((200, "Noted."),),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/ask",
        "Ask for a checkpoint now",
        act=_ask,
        answers=((202, "Asked."),),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/stop",
        "Ask for a checkpoint, then end the job here and everywhere",
        act=_stop,
        answers=((202, "Asked."),),
        inside=True,
    ),
    Route(
        "POST",
        _JOB + "/log",
        "The end of an attempt's output, from the store",
        act=_log,
        body=LogBody,
        inside=True,
    ),
    Route(
        "POST",
        "/v1/control",
        "Stop, start or remove a job on every machine",
        act=_control,
        body=ControlBody,
        answers=((200, "What became of it; of a removal: said again until it is removed."),),
        refusals=(404, 409),
    ),
    Route(
        "GET",
        _JOB + "/events",
        "What happens to the job, from now on",
        follow=_events,
        inside=True,
    ),
    Route(
        "GET",
        _JOB + "/replicator/commands",
        "Commands for the job's replicator; ends when a newer one connects",
        follow=_commands,
    ),
    Route(
        "POST",
        _JOB + "/replicator/events",
        "An answer or a fact from the job's replicator",
        act=_replicator_event,
        body=ReplicatorEvent(),
        answers=((200, "Noted."),),
        limit="replicator_body_bytes",
    ),
    Route(
        "POST",
        "/v1/interrupt",
        "A notice by hand: root and the daemon's own user",
        act=_interrupt,
        body=InterruptBody,
        answers=((202, "The interruption begins."),),
        refusals=(403,),
        operator=True,
    ),
)
