"""Whether a hyperprior by separation leaves a proper posterior of one pool of regressions.

With μ integrated over a flat prior the likelihood is bounded; its powers at the ends of the sds
are known, and a density ∝ x^p keeps no weight at an end where the sum of powers passes −1 on the
right side:

* τ_k → 0: none, so p > −1;
* τ_k → ∞: −(J_k − 1) with J_k the stores in which predictor k is not zero throughout, and −Σ rank
  X_j + P along all τ together;
* σ → 0: 0 where no store has rows to spare, else the likelihood vanishes;
* σ → ∞: −(N − P).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.family import Array
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.parts import total
from hbpipe.model.regression.relative import split
from hbpipe.model.regression.separation import Separation

#: Powers at 0 and at infinity; −∞ where a density falls faster than any.
_POWERS = {
    "uniform": (0.0, 0.0),
    "reciprocal": (-1.0, -1.0),
    "half_cauchy": (0.0, -2.0),
    "uniform_shrinkage": (0.0, -2.0),
}


def check_proper(sketch: RegressionSketch, prior: Separation, held: Array, spec: Any) -> None:
    """Raise unless the posterior of the only pool of a sketch integrates at every end.

    Raises
    ------
    FitError
        Naming the sd and the end at which weight does not fall off.
    """
    for what, margin in _margins(sketch, prior, held).items():
        if not margin > 0:
            raise FitError(
                f"the hyperprior {spec!r} gives an improper posterior: arbitrarily {what} keep "
                "their weight",
                where={"stores": int(sketch.n_groups[0]), "rows": int(sketch.n_values[0])},
                expected="a posterior that integrates to one",
                remedy="leave the hyperprior out (the default is proper), give proper densities "
                "such as half_normal or half_cauchy, or pool more stores",
            )


def _margins(sketch: RegressionSketch, prior: Separation, held: Array) -> dict[str, float]:
    """Powers to spare at each end; every one must be positive."""
    size, rows = sketch.size, float(sketch.n_values[0])
    loading = split(held, size)[1]
    varying = [k for k in range(size) if np.isnan(loading[k, k])]
    informed = total(sketch.rows.each(_informed))[0]
    ends = {k: _powers(prior.tau[k]) for k in varying}
    margins = {}
    for k, (at_zero, at_infinity) in ends.items():
        margins[f"small tau[{k}]"] = 1.0 + at_zero
        margins[f"large tau[{k}]"] = informed[k] - 1.0 - (1.0 + at_infinity)
    if ends:
        together = sum(1.0 + at_infinity for _, at_infinity in ends.values())
        ranks = rows - float(sketch.freedom[0])
        margins["large tau, all of them,"] = ranks - size - together
    if np.isnan(held[-1]):
        at_zero, at_infinity = _powers(prior.sigma)
        relative = all(any(t.parameter == "odds" for t in prior.tau[k]) for k in varying)
        if sketch.freedom[0] == 0 and not relative:
            margins["small sigma"] = 1.0 + at_zero
        margins["large sigma"] = rows - size - (1.0 + at_infinity)
    return margins


def _powers(terms: tuple[Term, ...]) -> tuple[float, float]:
    """Powers of a density of one sd at 0 and at infinity."""
    at_zero, at_infinity = 0.0, 0.0
    for term in terms:
        if term.parameter == "sigma" and len(terms) > 1:
            continue  # the part of the default of τ that makes its scale σ
        zero, infinity = _POWERS.get(term.density, (0.0, -np.inf))
        if term.density in ("gamma", "beta"):
            zero = float(term.arguments[0]) - 1.0
        elif term.density == "power":
            zero = infinity = float(term.arguments[0])
        per = 2.0 if term.parameter == "odds" else 1.0
        at_zero, at_infinity = at_zero + per * zero, at_infinity + per * infinity
    return at_zero, at_infinity


def _informed(rows: Rows) -> Array:
    """Count the stores of each pool in which a predictor is not zero throughout, (G, P)."""
    said = np.any(rows["factor"] != 0, axis=1)
    return np.stack([rows.sum(rows["n"] * column) for column in said.T], axis=1)
