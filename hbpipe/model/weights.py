"""Families whose events have weights, by what the weights mean.

``frequency``: a row stands for w identical events, and its statistics are theirs. ``precision``:
the variance of a row's estimate is divided by w. Both leave a family's statistics what they are.

``sampling``: w is one over the probability with which a row was sampled. The statistics are
weighted sums, beside Σ n and Σ w² n, of which :func:`effective` makes those of Kish's effective
size: the rate or mean is the weighted one, consistent for that of all rows whether they were
sampled or not, and its variance is about right. The likelihood of such statistics is a
pseudo-likelihood (Pfeffermann 1993, *International Statistical Review* 61, section 5; Savitsky and
Toth 2016, *Electronic Journal of Statistics* 10), not that of any model of the events.

Values of a common sd with precisions are a family of their own, ``normal_weighted``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import StatisticsError
from hbpipe.model import kish
from hbpipe.model.family import Codes, Family, Role, Statistic, Statistics
from hbpipe.model.numerics.grouped import float_sums, integer_sums

_PREFIX = "weighted_"
_SIZE, _SQUARES = "sampled_size", "squared_weights"
_INT64_MAX = 2**63 - 1


def can_have(family: Family, meaning: str) -> bool:
    """Whether events of a family may have weights of this meaning."""
    if meaning == "precision":
        return family.name == "normal_known_variance"
    regression = meaning == "frequency" and family.name == "normal_regression"
    return regression or kish.can_weigh(family)


def with_weights(base: Family, meaning: str) -> Family:
    """Return the family of the daily statistics of weighted events; its role ``weight`` is last.

    It is only measured: what is fitted to a window's statistics is ``base``.
    """
    name, roles = f"{base.name}:{meaning}", (*base.roles, _role(meaning))
    if meaning != "sampling":
        return replace(base, name=name, roles=roles, summarise=partial(_summarise, base, _copies))
    return replace(
        base,
        name=name,
        roles=roles,
        statistics=(
            *(_weighted(one) for one in base.statistics),
            Statistic(_SIZE, "float64", "sum", lowest=0.0),
            Statistic(_SQUARES, "float64", "sum", lowest=0.0),
        ),
        summarise=partial(_summarise, base, _weighted_rows, fold=partial(_fold, base)),
        fold=partial(_fold, base),
        dispersion=None,
    )


def _role(meaning: str) -> Role:
    return Role("weight", whole=meaning == "frequency", lowest=0.0)


def _weighted(one: Statistic) -> Statistic:
    return Statistic(
        f"{_PREFIX}{one.name}", "float64", one.merge, one.shape, one.lowest, absent=one.absent
    )


def _summarise(
    base: Family,
    weigh: Callable[[Family, Statistics, NDArray[Any]], dict[str, NDArray[Any]]],
    events: Mapping[str, NDArray[Any]],
    codes: Codes,
    n_stores: int,
    fold: Callable[[Statistics, Codes, int], dict[str, NDArray[Any]]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Weigh the statistics of each row by itself, and fold the rows of a store."""
    weight = np.asarray(events["weight"])
    if "counts" in events and np.ndim(events["counts"]) == 1 and len(weight):
        return _by_class(base, events["counts"], weight, codes, n_stores, sampled=fold is not None)
    own = {name: values for name, values in events.items() if name != "weight"}
    rows = weigh(base, base.summarise(own, np.arange(len(weight)), len(weight)), weight)
    return (fold or base.fold)(rows, codes, n_stores)


def _by_class(
    base: Family,
    numbers: NDArray[Any],
    weight: NDArray[Any],
    codes: Codes,
    n_stores: int,
    *,
    sampled: bool,
) -> dict[str, NDArray[Any]]:
    """Add up the weights of each store and class, of rows (E,) that name one class each.

    The same as of rows that count each class, without a column for each.
    """
    assert base.size is not None
    cells, n_cells = np.asarray(codes, np.int64) * base.size + numbers, n_stores * base.size
    if not sampled:
        return {"counts": integer_sums(weight, cells, n_cells).reshape(n_stores, -1)}
    weight = weight.astype(np.float64)
    return {
        f"{_PREFIX}counts": float_sums(weight, cells, n_cells).reshape(n_stores, -1),
        _SIZE: np.bincount(codes, minlength=n_stores).astype(np.float64),
        _SQUARES: float_sums(np.square(weight), codes, n_stores),
    }


def _copies(base: Family, rows: Statistics, weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Give the statistics of w rows like each; means and squares of one value stay."""
    found = {}
    for one in base.statistics:
        values = rows[one.name]
        by = weight.reshape(-1, *[1] * (values.ndim - 1))
        if one.merge == "precision":
            found[one.name] = _divided(values, by) if one.name == "variance" else values
        elif one.merge == "sum" or one.name == "n":
            found[one.name] = _times(one.name, values, by) if one.dtype == "int64" else values * by
        else:
            found[one.name] = values
    return found


def _times(name: str, values: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.int64]:
    """Multiply whole numbers exactly; raises StatisticsError where a product does not fit."""
    if np.any(values.astype(np.float64) * weight > 0.999 * _INT64_MAX):
        raise StatisticsError(
            f"{name} times its weight does not fit 64 bits",
            where={"largest_weight": int(weight.max())},
            expected="products below 9.2e18",
            remedy="check the column of the weights",
        )
    return np.asarray(values * weight.astype(np.int64))


def _divided(variance: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    known = weight > 0
    return np.where(known, variance / np.where(known, weight, 1), np.inf)


def _weighted_rows(base: Family, rows: Statistics, weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Give weighted statistics of each row, its size, and its size times w²."""
    weight, size = weight.astype(np.float64), kish.size_of(base, rows)
    with np.errstate(divide="ignore", over="ignore"):
        weighted = kish.scaled(base, rows, weight)
        squares = np.square(weight) * size
    found = {f"{_PREFIX}{name}": values for name, values in weighted.items()}
    return {**found, _SIZE: size, _SQUARES: squares}


def _fold(
    base: Family, statistics: Statistics, codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    folded = base.fold(_own(statistics), codes, n_stores)
    found = {f"{_PREFIX}{name}": np.asarray(v, np.float64) for name, v in folded.items()}
    return found | {
        name: float_sums(statistics[name], codes, n_stores) for name in (_SIZE, _SQUARES)
    }


def _own(statistics: Statistics) -> dict[str, NDArray[Any]]:
    """Return the weighted statistics under the names of the family that is fitted."""
    return {
        name.removeprefix(_PREFIX): values
        for name, values in statistics.items()
        if name.startswith(_PREFIX)
    }


def effective(base: Family, measured: Statistics) -> dict[str, NDArray[Any]]:
    """Make statistics of Kish's effective size from those of sampling weights.

    Parameters
    ----------
    base : the family that is fitted.
    measured : statistics of ``with_weights(base, "sampling")``, (J, ...).

    Returns
    -------
    Statistics of ``base``, (J, ...): counts have fractions.
    """
    return kish.effective(base, _own(measured), measured[_SQUARES])


def counted(base: Family, measured: Statistics) -> dict[str, NDArray[Any]]:
    """Give what was observed at its own size Σ n, with the weighted rates and means, (J, ...)."""
    own, size = _own(measured), measured[_SIZE]
    weighted = kish.size_of(base, own)
    seen = weighted > 0
    found: dict[str, NDArray[Any]] = dict(
        kish.scaled(base, own, np.where(seen, size / np.where(seen, weighted, 1.0), 1.0))
    )
    exact = {"beta_binomial": "trials", "gamma_poisson": "exposure"}.get(base.name, "n")
    return {**found, exact: np.where(seen, size, 0.0)} if exact in found else found
