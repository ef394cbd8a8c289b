"""Nodes are computed once for each point."""

import numpy as np

from hbpipe.model.integration.evaluated import Evaluated


class Counting:
    """A target that counts the points it is asked about."""

    asked = 0

    def nodes(self, points):
        self.asked += len(points)
        return {"square": points**2, "sum": points.sum(axis=1)}


def test_points_that_come_again_are_not_computed_again():
    target = Counting()
    evaluated = Evaluated(target)
    points = np.random.default_rng(1).normal(size=(32, 3))
    for number, total in ((8, 8), (16, 16), (4, 16), (32, 32), (32, 32)):
        found = evaluated(points[:number])
        np.testing.assert_array_equal(found["square"], points[:number] ** 2)
        np.testing.assert_array_equal(found["sum"], points[:number].sum(axis=1))
        assert target.asked == total
    others = points[::-1]
    np.testing.assert_array_equal(evaluated(others)["square"], others**2)
    assert target.asked == 64
