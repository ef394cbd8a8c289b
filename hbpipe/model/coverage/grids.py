"""Simulated pools for nonparametric priors: of two laws, and of one, which a grid must not harm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from hbpipe.model.coverage.designs import DESIGNS, Design, Truth
from hbpipe.model.coverage.mixtures import MIXTURES

_FAMILIES = ("normal_known_variance", "beta_binomial", "gamma_poisson")


def _of_one_law(
    draw: Callable[..., Truth],
    rng: np.random.Generator,
    replicates: int,
    groups: int,
    ratio: float,
) -> Truth:
    """Draw as for a single law, and write it as a mixture of one."""
    found = draw(rng, replicates, groups, ratio)
    laws = {name: values[:, None] for name, values in found.hyperparameters.items()}
    return Truth(found.statistics, {"proportion": np.ones((replicates, 1)), **laws})


GRIDS: dict[str, Design] = {
    **{
        f"{family}+grid": Design(MIXTURES[f"{family}+mixture"].draw, family=family, prior="grid")
        for family in _FAMILIES
    },
    **{
        f"{family}+grid_one_law": Design(
            partial(_of_one_law, DESIGNS[family].draw), family=family, prior="grid"
        )
        for family in _FAMILIES
    },
}
