"""What is started for an attempt: the program, whom it runs as, and what its environment says."""

from __future__ import annotations

from spotwatchd.config import Config
from spotwatchd.engine.records import Record
from spotwatchd.jobs.launcher import Order
from spotwatchd.jobs.spawn import account
from spotwatchd.wire.attempt import environment


def order_of(config: Config, record: Record) -> Order:
    """The newest attempt of the job, before this machine was made ready for it."""
    body = record.kept.body
    who = account(record.kept.uid, record.kept.gid)
    own = {"HOME": who.home, "USER": who.name, "LOGNAME": who.name}
    return Order(
        job=record.name,
        attempt=record.kept.attempt,
        argv=body.argv or [],
        cwd=body.cwd or "/",
        env={
            **body.env,
            **(own if record.kept.foreign else {}),
            **_facts(config, record),
            **_devices(record.kept.gpus),
        },
        who=who,
        directory=record.attempt_directory,
        grace=config.jobs.stop_grace,
        ask_signal=record.ask_signal,
        env_file=body.env_file,
        env_command=body.env_command,
    )


def _facts(config: Config, record: Record) -> dict[str, str]:
    restored = record.restored
    return environment(
        socket=str(config.socket),
        job=record.name,
        checkpoint_dir=record.kept.body.checkpoint_dir,
        attempt=record.kept.attempt,
        step=None if restored is None else restored.step,
        resume_from=record.resume_path,
        cause=record.cause,
        run_id=record.kept.run_id,
    )


def _devices(gpus: list[int] | None) -> dict[str, str]:
    """How a program learns of its GPUs; one that did not ask keeps what it was given by hand."""
    if gpus is None:
        return {}
    listed = ",".join(map(str, gpus))
    # nvidia-smi counts in the order of the PCI bus; CUDA's own default is the fastest first.
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**order, "CUDA_VISIBLE_DEVICES": listed, "SPOTWATCH_GPUS": listed}
