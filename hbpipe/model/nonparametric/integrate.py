"""Nodes of pools with a grid of laws: its weights averaged over refits of the bootstrap."""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array, Family, Prior
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.mixtures.conjugate import PROPORTION
from hbpipe.model.mixtures.integrate import single_law_pools
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.nonparametric.fits import GridFits
from hbpipe.model.nonparametric.pool import REFITS, GridPool

#: Components that have less of a store than this in every refit are left out.
_NONE = 1e-2


def integrate_grids(base: Family, fits: GridFits, uncertainty: str) -> SampledNodes:
    """Return the nodes of ``G`` pools.

    Pools with a single law are integrated as their family is. Those with a grid have one node,
    whose components carry the proportions of all refits; the method is ``bootstrap``. Under
    ``plug_in`` its proportions are those of the fit.
    """
    pools: list[PoolNodes | None] = [None] * len(fits.status)
    alone = np.flatnonzero(~fits.several)
    if len(alone):
        options = {"hyperprior": None, "uncertainty": uncertainty}
        some = fits.sketch.select(alone)
        parts = single_law_pools(base, some, fits.single.coordinates[alone], options)
        for pool, part in zip(alone.tolist(), parts, strict=True):
            pools[pool] = part
    for pool in np.flatnonzero(fits.several).tolist():
        if uncertainty == "plug_in":
            pools[pool] = _plug_in(base, fits, pool)
        else:
            pools[pool] = _refitted(base, fits.sketch.select(np.array([pool])))
    return SampledNodes(fits.family, tuple(pool for pool in pools if pool is not None))


def _refitted(base: Family, sketch: MixtureSketch) -> PoolNodes:
    stores = sketch.rows["stores"].astype(np.float64)
    grid = GridPool.of(base, sketch.statistics, stores)
    weight = grid.refit()
    used = np.flatnonzero(np.any(weight * stores.sum() > _NONE, axis=0))
    law = {name: values[used] for name, values in grid.law.items()}
    return _node("bootstrap", base, law, weight[:, used], int(stores.sum()))


def _plug_in(base: Family, fits: GridFits, pool: int) -> PoolNodes:
    used = fits.hyperparameters[PROPORTION][pool] > 0
    at = {name: values[pool, used] for name, values in fits.hyperparameters.items()}
    weight = at[PROPORTION][None]
    return _node("plug_in", base, base.prior(at), weight, int(fits.n_groups[pool]))


def _node(method: str, base: Family, law: Prior, weight: Array, stores: int) -> PoolNodes:
    """One node, of components with the proportions of B refits (B, K)."""
    mean, spread = _location_and_spread(base, law)
    values = {
        **law,
        "mu": mean,
        "spread": spread,
        PROPORTION: weight.mean(axis=0),
        "refits": weight,
    }
    return PoolNodes(
        method=method,
        points=np.empty((1, 0)),
        weight=np.ones(1),
        values={name: part[None] for name, part in values.items()},
        n_groups=stores,
        sampler="bootstrap" if method == "bootstrap" else "",
        ess=float(REFITS) if method == "bootstrap" else np.nan,
    )


def _location_and_spread(base: Family, law: Prior) -> tuple[Array, Array]:
    """Mean and spread A of each component, in units of one observation's variance."""
    law_of = geometry_of(base).law
    mean, sd = law_of.mean_sd(*law.values())
    if "tau" in law:
        return mean, np.square(sd)
    size = law["alpha"] + law["beta"] if "alpha" in law else law["rate"]
    return mean, 1.0 / size
