"""The library's door to nested levels: fits and posteriors of stores with labels of groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.arguments import checked_exposure, checked_levels
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Description, Family, Statistics
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.nested.labels import Labels
from hbpipe.model.nested.levels import GroupMeans, NestedNodes
from hbpipe.model.nesting import NestedFits, fit_nested, integrate_nested, own_values
from hbpipe.model.numerics.chains import disagreement
from hbpipe.model.pooling import complete_pooling
from hbpipe.model.posterior import Posterior
from hbpipe.model.remembered import remembered
from hbpipe.model.update.prediction import predict_pool


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFits(NestedFits):
    """A nested fit that knows its groups by their labels.

    Parameters
    ----------
    labels
        The groups that the fit knows.
    without
        The fit of one prior over all stores, by maximum marginal likelihood.
    """

    labels: Labels
    without: PoolFits

    def without_levels(self) -> PoolFits:
        """Return the fit of one prior over all stores."""
        return self.without


def fit_labelled(
    family: Family,
    statistics: Statistics,
    nesting: Mapping[str, Any],
    covariates: Any = None,
    **options: Any,
) -> LabelledFits:
    """Fit stores with labels of their groups.

    Parameters
    ----------
    family, statistics
        The family, and its checked statistics, name -> (J,).
    nesting
        name of a level -> (J,) label of each store's group, coarse to fine.
    covariates
        None: prior means have covariates, or nested levels.
    options
        Those of :func:`hbpipe.model.nesting.fit_nested`.

    Raises
    ------
    FitError, StatisticsError
        As :func:`hbpipe.model.nesting.fit_nested` and :meth:`hbpipe.model.nested.labels.Labels.of`.
    """
    if covariates is not None:
        raise FitError(
            "there are both nesting and covariates",
            expected="one of the two",
            remedy="leave one out, or give the levels as columns of the covariates",
        )
    if family.prior_form != "single":
        raise FitError(
            f"there are both nesting and the prior {family.prior_form}",
            expected="one of the two",
            remedy="leave one out: each level has a single law",
        )
    stores = len(next(iter(statistics.values())))
    labels = Labels.of(nesting, stores)
    finest = labels.find(nesting, stores)[-1]
    sketch = family.compress(statistics, finest, len(labels.levels[-1].keys))
    parents = [level.parents for level in labels.levels]
    fits = fit_nested(family, sketch, parents, labels.names, **options)
    whole = family.compress(statistics, np.zeros(stores, np.int64), 1)
    without = fit_pools(family, whole, fixed=own_values(family, options.get("fixed")))
    return LabelledFits(**vars(fits), labels=labels, without=without)


class NestedPosterior(Posterior):
    """Posteriors of ``J`` stores in nested groups.

    Attributes
    ----------
    levels
        name of a level -> :class:`hbpipe.model.nested.levels.GroupMeans`: the posteriors of the
        means of the groups that the fit knows.
    groups
        The posterior of all groups, as a worker receives it.
    """

    def __init__(
        self,
        family: Family,
        fits: LabelledFits,
        groups: NestedNodes,
        statistics: Statistics,
        nesting: Any,
        quantiles: float | tuple[float, ...],
    ) -> None:
        stores = len(next(iter(statistics.values())))
        codes = groups.pools(fits.labels.find(nesting, stores))
        complete = complete_pooling(fits)
        super().__init__(family, groups, groups.nodes, statistics, quantiles, complete, codes=codes)
        self.groups = groups
        self.levels = {
            level.name: GroupMeans(groups.groups(level.name), quantiles, level.labels)
            for level in fits.labels.levels
        }

    def predict(
        self, exposure: Array | float, quantiles: float | tuple[float, ...] = (0.025, 0.5, 0.975)
    ) -> Description:
        """Predict each store's next observation; see :meth:`Posterior.predict`."""
        amount = checked_exposure(exposure, len(self._codes), self._family)
        levels = checked_levels(quantiles)
        rows = [np.flatnonzero(self._codes == pool) for pool in np.unique(self._codes)]
        parts = [self._predict(some, amount[some], levels) for some in rows]
        mean, sd = np.empty(len(amount)), np.empty(len(amount))
        limits = np.empty((len(amount), len(levels)))
        for some, part in zip(rows, parts, strict=True):
            mean[some], sd[some], limits[some] = part.mean, part.sd, part.quantiles

        def cdf(points: Any) -> Array:
            at = np.broadcast_to(np.asarray(points, np.float64), mean.shape)
            out = np.empty(len(at))
            for some, part in zip(rows, parts, strict=True):
                out[some] = part.cdf(at[some])
            return out

        return Description(mean, sd, limits, cdf)

    def _predict(self, rows: NDArray[np.int64], amount: Array, levels: Array) -> Description:
        """Predict stores that are all of one pool."""
        of_pool = self.groups.nodes.select(self._codes[rows[:1]])
        at = {name: values[rows] for name, values in self._of_stores().items()}
        statistics = {name: values[rows] for name, values in self._statistics.items()}
        return predict_pool(self._family, of_pool, at, statistics, amount, levels)


def nested_posterior(
    fits: PoolFits,
    statistics: Statistics,
    nesting: Any,
    uncertainty: str,
    quantiles: float | tuple[float, ...],
) -> NestedPosterior:
    """Update stores of known and of new groups; see :func:`hbpipe.posterior`."""
    if not isinstance(fits, LabelledFits):
        raise FitError(
            "nesting is given, but the fit has no nested levels",
            expected="nesting in the fit and in its posterior, or in neither",
            remedy="leave nesting out, or fit with it",
        )
    groups = remembered(fits, uncertainty, _integrate)
    family = get_family(fits.family)
    return NestedPosterior(family, fits, groups, statistics, nesting, quantiles)


def _integrate(fits: LabelledFits, *, uncertainty: str) -> NestedNodes:
    """Integrate; FitError where the Markov chains disagree."""
    found = integrate_nested(fits, uncertainty=uncertainty)
    if not found.drawn.converged:
        raise disagreement(
            found.drawn.r_hat,
            "give proper hyperpriors with lighter tails, or leave a level out",
            stores=int(fits.n_groups[0]),
        )
    return found
