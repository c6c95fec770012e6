"""Every number the core goes by, with its source. Seconds, unless it says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoreSettings:
    """Defaults are for a spot instance; tests and operators change single fields.

    Attributes:
        mtbf: mean time between deaths *without* a notice, for Young/Daly. Mean lives in the
            public p3 traces are 1.4 to 3.1 h; notices save most of them, so the long end.
        first_save: the first background save after the job runs: it measures the cost early,
            and a tenth of all lives end within 7 minutes.
        min_interval: no two background saves closer than this, whatever they cost.
        max_interval: nor further apart: nobody wants to lose more than half an hour.
        assumed_cost: of one save while none was measured.
        assumed_commit: seconds from the last byte to the store's word while none was measured.
        stop_grace: SIGTERM to SIGKILL.
        exit_wait: what a saved job gets to leave by itself before it is stopped.
        stop_wait: how long a job may take to save when a person stops it.
        linger: how long after the exit of a program without the client its last files may
            still be found by the scan (they must stand still before they count as sealed).
        past_window: a deadline this far in the past at first sight may still be meant: EC2
            gives the operating system up to about 150 s after it.
        past_grace: the deadline that such a notice gets, from now.
        undrain_after: a machine that lives this long after the deadline was spared.
        jitter: a deadline is moved only by more than this (clock arithmetic, not news).
        hint_decay: hints within this time after one that was followed are the same hint.
        flush_limit: how long the last checkpoint of a job that is gone is tried to commit
            before the job goes on without it.
        push_backoff: first and longest pause between tries of an upload or commit.
        restart_backoff: first and longest pause between runs without progress, takes, releases.
        blocked_backoff: first and longest pause before a machine that lacks something looks again.
        link_wait: how long a job that was just added keeps its place before its replicator
            is there: processes of ours take seconds to start where all start at once.
        story_lines: length of the story.
    """

    mtbf: float = 3 * 3600.0
    first_save: float = 10.0
    min_interval: float = 10.0
    max_interval: float = 1800.0
    assumed_cost: float = 5.0
    assumed_commit: float = 0.5
    stop_grace: float = 30.0
    exit_wait: float = 2.0
    stop_wait: float = 60.0
    linger: float = 2.0
    past_window: float = 150.0
    past_grace: float = 10.0
    undrain_after: float = 240.0
    jitter: float = 0.5
    hint_decay: float = 600.0
    flush_limit: float = 300.0
    push_backoff: tuple[float, float] = (0.2, 10.0)
    restart_backoff: tuple[float, float] = (1.0, 60.0)
    blocked_backoff: tuple[float, float] = (2.0, 30.0)
    link_wait: float = 10.0
    story_lines: int = 1000
