"""The table of messages against the messages themselves."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.nested.message_table import MessageTable


@pytest.mark.parametrize("name", ["normal", "normal_known_variance"])
def test_interpolated_messages_are_the_messages(name):
    rng = np.random.default_rng(1)
    family, group = get_family(name), np.repeat(np.arange(4), [1, 9, 0, 60])
    n = np.floor(np.exp(rng.uniform(0, 7, 70))).astype(int)
    mean = rng.normal(1e4, 2.0, 70)
    statistics = {"n": n, "mean": mean, "m2": 4.0 * rng.chisquare(n)}
    if name == "normal_known_variance":
        statistics = {"estimate": mean, "variance": 10.0 / n}
    sketch = family.compress(statistics, group, 4)
    table = MessageTable.of(family, sketch, float(family.geometry.median_size(sketch)[3]))
    for log_odds in (-12.0, -4.03, 0.0, 2.718, 9.99):
        noise = np.exp(rng.normal()) if family.geometry.has_noise else 1.0
        point = [0.0, np.exp(log_odds) * noise, 0.5 * np.log(noise)][: len(family.coordinates)]
        coordinates = np.tile(point, (4, 1))
        exact = family.location_message(sketch, coordinates, derivatives=False)
        found = table.at(np.array([log_odds]), np.array([noise]))
        for part in ("precision", "mean", "peak"):
            values = getattr(exact, part).value
            np.testing.assert_allclose(getattr(found, part).value, values, rtol=3e-9, atol=1e-9)
        assert found.precision.value[2] == found.mean.value[2] == 0.0
