"""How far two sets of runs are apart, and how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stdcf_lib.checks import number


class Difference(NamedTuple):
    """A mean difference and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def difference(a: Sequence[float], b: Sequence[float], *, paired: bool = False, level: float = 0.95) -> Difference:
    """By how much the mean of `a` is above that of `b`, with its confidence interval from Student's t.

    Args:
        a, b: one figure a run, at least two of each.
        paired: whether a[i] and b[i] belong together, as two answers about the same fold do; if not, the two may be of
            different number and spread (Welch).
        level: of the interval.

    Raises:
        ValueError: too few figures, or pairs that do not match.
    """
    from scipy import stats  # here, as it takes longer than all else that a notebook imports after PyTorch

    number("level", level, above=0, below=1)
    if min(len(a), len(b)) < 2 or (paired and len(a) != len(b)):
        raise ValueError(f"{len(a)} and {len(b)} figures: give two or more of each{', and as many' if paired else ''}")
    if paired:
        test = stats.ttest_1samp(np.subtract(a, b), 0.0)
    else:
        test = stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(level)
    return Difference(float(np.mean(a) - np.mean(b)), float(low), float(high))
