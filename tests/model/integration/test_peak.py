"""Modes of the hyperparameters where there are several."""

from dataclasses import dataclass

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.geometry import SPREAD, geometry_of
from hbpipe.model.integration.peak import find_peak
from hbpipe.model.integration.target import Target
from hbpipe.model.numerics import jets


@dataclass(frozen=True)
class TwoBumps:
    """A hyperprior with summits at log A = ``low`` and, e² times as high, at ``high``."""

    low: float
    high: float
    terms = ()
    measure = ()

    def in_working(self, working):
        bumps = [
            jets.exp((x := working[SPREAD] - at) * x * -0.5 + height)
            for at, height in ((self.low, 0.0), (self.high, 2.0))
        ]
        return jets.log(bumps[0] + bumps[1] + 1e-300)

    def select(self, pools):
        return self


@pytest.mark.parametrize("begin", [-8.0, -2.0, 4.0])
def test_the_higher_summit_is_found_from_anywhere(begin):
    family = get_family("normal_known_variance")
    data = {"estimate": np.array([0.3, 0.3]), "variance": np.array([1.0, 1.0])}
    sketch = family.compress(data, np.arange(2), 2)
    held = np.full((2, 2), np.nan)
    target = Target(family, geometry_of(family), sketch, TwoBumps(-8.0, -2.0), held)
    start = np.array([[0.0, begin], [1.0, -8.0]])
    peak = find_peak(target, start)
    assert start[1, SPREAD] == -8.0
    # One estimate lowers the density by its spread: −½ log(1 + A).
    np.testing.assert_allclose(peak.point, [[0.3, -2.0]] * 2, atol=0.1)
    np.testing.assert_allclose(peak.point[0], peak.point[1], atol=1e-6)
    middle = peak.scan.log_spread.shape[1] // 2
    np.testing.assert_allclose(peak.scan.log_spread[:, middle], peak.point[:, SPREAD])
    np.testing.assert_allclose(peak.scan.value.max(axis=1), target.evaluate(peak.point).value)
