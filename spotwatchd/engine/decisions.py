"""What the budget decided, as a person reads it: one line, every figure with its unit.

uploads step 500 first: 12.1 GB at 310 MB/s needs 39 s of 61 s; then step 512 ...
"""

from __future__ import annotations

from spotwatchd.core.actions import Choice, Decided
from spotwatchd.engine import text


def sentence(decided: Decided) -> str:
    """The decision for one job."""
    fitting = [choice for choice in decided.choices if choice.fits]
    if not fitting:
        return f"{_nothing_fits(decided)}; tries all the same, after what gets through"
    parts = [f"uploads {_name(fitting[0])}{_place(decided)}: {_need(decided, fitting[0])}"]
    parts += [f"then {_name(choice)}: {_need(decided, choice)}" for choice in fitting[1:]]
    passed = [choice for choice in decided.choices if not choice.fits]
    parts += [f"{_name(choice)} would not get through as well" for choice in passed[:1]]
    return "; ".join(parts)


def _nothing_fits(decided: Decided) -> str:
    best = decided.choices[0]
    return f"{_name(best)} is not expected to get through: {_need(decided, best)}"


def _name(choice: Choice) -> str:
    return "the new checkpoint" if choice.step is None else f"step {choice.step:,}"


def _place(decided: Decided) -> str:
    if decided.jobs < 2:
        return ""
    return " first" if decided.place == 1 else f" as number {decided.place} of {decided.jobs} jobs"


def _need(decided: Decided, choice: Choice) -> str:
    ready = f"ready in {text.span(choice.ready)}, " if choice.ready > 0 else ""
    if choice.seconds is None:
        return f"{ready}{text.size(choice.size)} left, and its upload stalls"
    speed = choice.size / choice.seconds if choice.seconds > 0 else decided.rate
    needs = f"needs {text.span(choice.seconds)} of {text.span(max(decided.left, 0.0))}"
    saves = f"saves {text.span(choice.value)} of work"
    return f"{ready}{text.size(choice.size)} at {text.size(speed)}/s {needs}, {saves}"
