"""Fits of one chain by hbpipe and by other programs: each gives the log likelihood it reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from tests.bench.stores import Statistics, conversions, orders

Array = NDArray[np.float64]
Task = Callable[[], float]

STORES_OF_A_SMALL_POOL = 100


def maximum_likelihood(family: str) -> Callable[[Statistics], Task]:
    """Fit by hbpipe, compression to a sketch included."""
    return lambda stores: lambda: hbpipe.fit(family, stores).log_marginal_likelihood


def conversions_by_scipy(stores: Statistics) -> Task:
    """L-BFGS-B in (log alpha, log beta) over all stores, with the gradient in closed form."""
    y, n = stores["successes"], stores["trials"]
    constant = -np.sum(np.log1p(n) + special.betaln(n - y + 1.0, y + 1.0))

    def loss(point: Array) -> tuple[float, Array]:
        alpha, beta = np.exp(point)
        value = np.sum(special.betaln(y + alpha, n - y + beta) - special.betaln(alpha, beta))
        common = special.digamma(alpha + beta) - special.digamma(n + alpha + beta)
        slope = np.array(
            [
                alpha * np.sum(special.digamma(y + alpha) - special.digamma(alpha) + common),
                beta * np.sum(special.digamma(n - y + beta) - special.digamma(beta) + common),
            ]
        )
        return -value / len(y), -slope / len(y)

    return lambda: constant - len(y) * _minimum(loss, np.log([1.0, 10.0]))


def orders_by_scipy(stores: Statistics) -> Task:
    """L-BFGS-B in (log shape, log rate) over all stores, with the gradient in closed form."""
    y, exposure = stores["count"], stores["exposure"]
    constant = np.sum(y * np.log(exposure) - special.gammaln(y + 1.0))

    def loss(point: Array) -> tuple[float, Array]:
        shape, rate = np.exp(point)
        total = np.log(rate + exposure)
        terms = special.gammaln(y + shape) - special.gammaln(shape)
        value = np.sum(terms + shape * point[1] - (y + shape) * total)
        ratio = (y + shape) / (rate + exposure)
        grown = special.digamma(y + shape) - special.digamma(shape) + point[1] - total
        slope = np.array([shape * np.sum(grown), np.sum(shape - rate * ratio)])
        return -value / len(y), -slope / len(y)

    return lambda: constant - len(y) * _minimum(loss, np.zeros(2))


def _minimum(loss: Callable[[Array], tuple[float, Array]], start: Array) -> float:
    found = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}
    )
    return float(found.fun)


def orders_by_statsmodels(stores: Statistics) -> Task:
    """Fit the negative binomial model with exposure, which is the same likelihood."""
    from statsmodels.discrete.discrete_model import NegativeBinomial

    constant = np.ones((len(stores["count"]), 1))
    model = NegativeBinomial(stores["count"], constant, exposure=stores["exposure"])
    return lambda: float(model.fit(disp=0, method="bfgs", maxiter=200).llf)


def small_pools(stores: Statistics) -> Task:
    """Fit pools of a hundred stores each, all in one pass; the sum over pools."""
    model = get_family("beta_binomial")
    pools = np.arange(len(stores["trials"])) // STORES_OF_A_SMALL_POOL
    n_pools = int(pools[-1]) + 1

    def run() -> float:
        fits = fit_pools(model, model.compress(stores, pools, n_pools))
        return float(np.sum(fits.log_marginal_likelihood))

    return run


def small_pools_in_turn(stores: Statistics) -> Task:
    """Fit the same pools by one call each; the sum over pools."""
    cuts = range(0, len(stores["trials"]), STORES_OF_A_SMALL_POOL)
    pools: list[dict[str, Any]] = [
        {name: values[cut : cut + STORES_OF_A_SMALL_POOL] for name, values in stores.items()}
        for cut in cuts
    ]
    return lambda: sum(hbpipe.fit("beta_binomial", pool).log_marginal_likelihood for pool in pools)


#: name -> (simulation, what is timed)
FITS: dict[str, tuple[Callable[[int], Statistics], Callable[[Statistics], Task]]] = {
    "conversions, hbpipe": (conversions, maximum_likelihood("beta_binomial")),
    "conversions, scipy": (conversions, conversions_by_scipy),
    "orders, hbpipe": (orders, maximum_likelihood("gamma_poisson")),
    "orders, scipy": (orders, orders_by_scipy),
    "orders, statsmodels": (orders, orders_by_statsmodels),
    "pools, one pass": (conversions, small_pools),
    "pools, in turn": (conversions, small_pools_in_turn),
}
