"""How often a running job is asked for a background save.

Young/Daly: the work lost to deaths without a notice and the time spent on saving are
least together at W = sqrt(2 * mtbf * cost). Only what stops training counts as cost:
the upload runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from spotwatchd.core.estimate import robust
from spotwatchd.core.settings import CoreSettings


def interval(wanted: float | None, costs: Sequence[float], settings: CoreSettings) -> float | None:
    """Seconds between saves, or None for never.

    Args:
        wanted: the job's own setting: None = choose, 0 = never, else exactly that.
        costs: flush seconds of the latest saves, the figures that the budget goes by, too.
        settings: the machine's.
    """
    if wanted is not None:
        return wanted if wanted > 0 else None
    known = robust(costs)
    cost = settings.assumed_cost if known is None else known.middle
    chosen = math.sqrt(2 * settings.mtbf * max(cost, 0.0))
    return min(max(chosen, settings.min_interval), settings.max_interval)


def first(wanted: float | None, settings: CoreSettings) -> float | None:
    """Seconds from the start of a run to its first save, or None for never."""
    if wanted is None:
        return settings.first_save
    return min(wanted, settings.first_save) if wanted > 0 else None
