"""Hypothesis strategies for events, statistics and hyperparameters of any family.

They read a family's own declarations, so a new family is generated without being asked.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.families import FAMILIES, PRIORS, get_family
from hbpipe.model.family import Coordinate, Family, Role


def _with_other_priors() -> list[Family]:
    """Every family with every prior but a single law that it takes."""
    found = []
    for name in FAMILIES:
        for prior in PRIORS[1:]:
            try:
                found.append(get_family(name, prior=prior))
            except FitError:
                continue
    return found


WITH_OTHER_PRIORS = _with_other_priors()
families = st.sampled_from([*FAMILIES.values(), *WITH_OTHER_PRIORS])
#: Names of the families whose hyperparameters are integrated on a grid, or by any method.
ON_A_GRID = [name for name, family in FAMILIES.items() if family.geometry is not None]
INTEGRABLE = [name for name, family in FAMILIES.items() if family.geometry or family.sampling]


def _column(family: Family, role: Role, size: int) -> st.SearchStrategy[NDArray[Any]]:
    """Possible values of one role of ``size`` events."""
    if role.several:
        width = family.size or 1
        flat = _column(family, replace(role, several=False), size * width)
        return flat.map(lambda values: values.reshape(size, width))
    if role.whole:
        least = int(role.lowest or 0)
        items: st.SearchStrategy[Any] = st.integers(
            least, 1000 if role.below is None else role.below - 1
        )
        return st.lists(items, min_size=size, max_size=size).map(
            lambda values: np.array(values, dtype=np.int64)
        )
    least = -1e6 if role.lowest is None else role.lowest + (1e-3 if role.exclusive else 0.0)
    items = st.floats(least, 1e6, allow_subnormal=False)
    return st.lists(items, min_size=size, max_size=size).map(
        lambda values: np.array(values, dtype=np.float64)
    )


@st.composite
def events(
    draw: st.DrawFn, family: Family, *, max_events: int = 30, max_stores: int = 6
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], int]:
    """Events by role, codes, and the number of stores; some stores may have none."""
    size = draw(st.integers(0, max_events))
    n_stores = draw(st.integers(1, max_stores))
    columns = {role.name: draw(_column(family, role, size)) for role in family.roles}
    for role in family.roles:
        if role.at_most:
            columns[role.name] = np.minimum(columns[role.name], columns[role.at_most])
    codes = draw(st.lists(st.integers(0, n_stores - 1), min_size=size, max_size=size))
    return columns, np.array(codes, dtype=np.int64), n_stores


@st.composite
def coordinates(draw: st.DrawFn, family: Family) -> NDArray[np.float64]:
    """One point (D,) well inside the bounds of the coordinates."""
    ranges = {True: (0.01, 0.6), False: (-1.5, 1.5)}

    def inside(axis: Coordinate) -> st.SearchStrategy[float]:
        low, high = ranges[axis.spread]
        return st.floats(max(low, axis.lower + 0.01), min(high, axis.upper - 0.01))

    return np.array([draw(inside(axis)) for axis in family.coordinates])
