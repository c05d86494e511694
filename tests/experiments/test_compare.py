"""Intervals of differences, against the formulas of a textbook."""

import math

import numpy as np
import pytest
from scipy import stats

from stdcf_lib.experiments.compare import Difference, difference


def test_welch_by_hand():
    a, b = [3.0, 5.0, 4.0], [1.0, 2.0, 2.5, 0.5]
    variances = [np.var(x, ddof=1) / len(x) for x in (a, b)]
    freedom = sum(variances) ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(variances, (a, b), strict=True))
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances))
    found = difference(a, b)
    assert found == pytest.approx((2.5, 2.5 - reach, 2.5 + reach))
    assert found.decided and str(found).startswith("+2.500 [+")


def test_pairs_take_out_what_both_share():
    shared = np.array([0.1, 0.9, 0.5, 0.3])
    a, b = shared + 0.1 + np.array([0.0, 0.01, -0.01, 0.0]), shared
    assert difference(a.tolist(), b.tolist(), paired=True).decided
    assert not difference(a.tolist(), b.tolist()).decided
    reach = stats.t.ppf(0.95, 3) * np.std(a - b, ddof=1) / 2
    assert difference(a.tolist(), b.tolist(), paired=True, level=0.9).high == pytest.approx(0.1 + reach)


def test_too_few_figures_are_refused():
    with pytest.raises(ValueError, match="1 and 3 figures: give two or more of each"):
        difference([1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="2 and 3 figures: give two or more of each, and as many"):
        difference([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)
    with pytest.raises(ValueError, match="level=1"):
        difference([1.0, 2.0], [1.0, 2.0], level=1)
    assert not Difference(0.0, -1.0, 1.0).decided
