"""Figures from few, noisy measurements: a middle and how far to trust it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The median absolute deviation of normal noise times this is its standard deviation.
_MAD_TO_SIGMA = 1.4826
# One measurement may be this far off (relative); each further one halves the doubt's reason,
# and from _ENOUGH on the measurements speak for themselves.
_DOUBT = 0.3
_ENOUGH = 5


@dataclass(frozen=True)
class Estimate:
    """What a quantity is thought to be.

    Attributes:
        middle: the median, which one odd measurement does not move.
        spread: about one standard deviation, in the same unit.
    """

    middle: float
    spread: float

    @property
    def relative(self) -> float:
        """The spread as a share of the middle."""
        return self.spread / self.middle if self.middle > 0 else 0.0


def robust(samples: Sequence[float]) -> Estimate | None:
    """The estimate that the samples give, or None when there are none."""
    if not samples:
        return None
    middle = statistics.median(samples)
    noise = _MAD_TO_SIGMA * statistics.median(abs(each - middle) for each in samples)
    doubt = 0.0 if len(samples) >= _ENOUGH else _DOUBT * abs(middle) / len(samples)
    return Estimate(middle, max(noise, doubt))
