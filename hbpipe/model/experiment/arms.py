"""The statistics of two arms side by side: what is kept of a store that runs an experiment.

A store has those of its family twice, ``trials_control`` beside ``trials_treatment``. They merge
arm by arm, so counts are exact, and a store that lacks an arm has the family's empty statistics
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.families import ARMS, BY_ARM
from hbpipe.model.family import Codes, Family, Role, Statistic, Statistics


def by_arm(family: Family) -> Family:
    """Return the two-arm form of a family, for its daily statistics.

    Events have one more role, ``arm``: 0 for control and 1 for treatment. The slots of the model
    stay those of one arm: what is fitted is the effect, another family (``effects``).
    """
    return replace(
        family,
        name=family.name + BY_ARM,
        roles=(*family.roles, Role("arm", whole=True)),
        statistics=tuple(_of_arm(one, arm) for arm in ARMS for one in family.statistics),
        summarise=partial(_summarise, family),
        fold=partial(_fold, family),
        dispersion=None,
        sample_size=None,
    )


def arm_of(family: Family, statistics: Statistics, arm: str) -> dict[str, NDArray[Any]]:
    """Return the statistics of one arm under the names that ``family``, of one arm, has."""
    return {one.name: statistics[f"{one.name}_{arm}"] for one in family.statistics}


def side_by_side(control: Statistics, treatment: Statistics) -> dict[str, NDArray[Any]]:
    """Return the statistics of two arms under the names of their two-arm family."""
    arms = zip(ARMS, (control, treatment), strict=True)
    return {f"{name}_{arm}": values for arm, own in arms for name, values in own.items()}


def _of_arm(one: Statistic, arm: str) -> Statistic:
    at_most, needs = (name and f"{name}_{arm}" for name in (one.at_most, one.needs))
    return replace(one, name=f"{one.name}_{arm}", at_most=at_most, needs=needs)


def _summarise(
    family: Family, events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Summarise the events of each store and arm as those of a store of its own."""
    own = {role: values for role, values in events.items() if role != "arm"}
    both = family.summarise(own, codes.astype(np.int64) * 2 + events["arm"], n_stores * 2)
    return side_by_side(*({name: v[arm::2] for name, v in both.items()} for arm in (0, 1)))


def _fold(
    family: Family, statistics: Statistics, codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    arms = (arm_of(family, statistics, arm) for arm in ARMS)
    return side_by_side(*(family.fold(own, codes, n_stores) for own in arms))
