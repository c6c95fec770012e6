"""What the core must know of a job, from what was registered and what is configured."""

from __future__ import annotations

from spotwatchd.config import Config
from spotwatchd.core.resources import visible
from spotwatchd.core.words import JobPolicy
from spotwatchd.engine.records import Kept


def policy_of(kept: Kept, config: Config) -> JobPolicy:
    """The policy of a job."""
    body = kept.body
    interval = body.interval
    if interval is None and body.checkpoint_glob:
        interval = 0.0  # a program without the client cannot be asked to save and go on
    if interval is None and isinstance(config.checkpoint.interval, (int, float)):
        interval = float(config.checkpoint.interval)
    return JobPolicy(
        managed=body.managed,
        interval=interval,
        max_crashes=config.jobs.max_crashes,
        gpus=body.gpus,
        sees=visible(body.env.get("CUDA_VISIBLE_DEVICES")),
        priority=body.priority,
        since=kept.created_at,
        owner=str(kept.uid),
    )
