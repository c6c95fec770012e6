"""Hypothesis profiles: thorough by default, quick and repeatable for the planted faults."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

_COMMON = settings(
    deadline=None,
    report_multiple_bugs=False,
    # Explaining traces every line, which takes minutes here; the story of a failure is short.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("core", _COMMON, max_examples=300)
settings.register_profile(
    "planted-faults",
    _COMMON,
    max_examples=300,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
)
settings.register_profile("core-long", _COMMON, max_examples=10_000)
