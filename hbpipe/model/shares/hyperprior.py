"""Hyperpriors of mean shares and their concentration: Dirichlet(c), and a density of Σ α.

The default is that of the Beta-Binomial, which is the case of two classes: Dirichlet(½), and wide
uniform shrinkage of the concentration M, p(M) = (1/s)/(1/s + M)² with s ten over the median n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term, read_call, read_term
from hbpipe.model.family import Array, Codes, Derivatives
from hbpipe.model.geometry import lower_median
from hbpipe.model.hyperpriors import read_parts
from hbpipe.model.marginal.dirichlet_multinomial import ShareSketch, in_contrasts, shares
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

_NAMES = ("mean", "concentration")
#: Densities of the concentration with a finite integral, whatever their arguments.
_PROPER = ("half_cauchy", "half_normal", "exponential", "gamma", "uniform_shrinkage")
#: c of the default.
_JEFFREYS = 0.5
#: φ of an infinite concentration, for densities of it.
_LEAST_PHI = 1e-15


@dataclass(frozen=True)
class ShareHyperprior:
    """A compiled hyperprior for ``G`` pools.

    Parameters
    ----------
    weight
        c of the Dirichlet law of the mean shares, 0 where these are known.
    concentration
        The density of M = Σ α; None where that is known.
    """

    weight: float
    concentration: Term | None

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density of (μ, M) without any Jacobian, in the optimiser's coordinates (G, K)."""
        mean = shares(coordinates[:, :-1])
        power = self.weight - 1.0 if self.weight else 0.0
        with np.errstate(divide="ignore"):
            value = power * np.sum(np.log(mean), axis=1) if power else np.zeros(len(mean))
        none = np.zeros_like(mean)
        gradient, hessian = in_contrasts(mean, np.full_like(mean, power), none, none)
        gradient[:, -1] = hessian[:, -1, -1] = 0.0
        if self.concentration is not None:
            (phi,) = jets.variables(np.maximum(coordinates[:, -1:], _LEAST_PHI))
            jet = self._of(jets.exp(jets.log(1.0 - phi) - jets.log(phi)))
            value = value + jet.value
            gradient[:, -1], hessian[:, -1, -1] = jet.gradient[:, 0], jet.hessian[:, 0, 0]
        return value, gradient, hessian

    def of_log_sd(self, log_sd: Array) -> Array:
        """Log density of x = −½ log M (S,), Jacobian included; 0 where M is known."""
        if self.concentration is None:
            return np.zeros(len(log_sd))
        nothing = np.zeros((len(log_sd), 0)), np.zeros((len(log_sd), 0, 0))
        jet = self._of(Jet(np.exp(-2.0 * log_sd), *nothing))
        return np.asarray(jet.value - 2.0 * log_sd + np.log(2.0))

    def select(self, pools: Codes) -> ShareHyperprior:
        """Return the hyperprior of some pools."""
        term = self.concentration
        if term is None:
            return self
        cut = tuple(a[pools] if isinstance(a, np.ndarray) else a for a in term.arguments)
        return replace(self, concentration=replace(term, arguments=cut))

    def check_proper(self) -> None:
        """Raise FitError where the posterior of the concentration has no finite integral.

        Without spread the likelihood is a positive number, so the density alone must fall off;
        where every store has events of one class only, that holds at M = 0 as well.
        """
        term = self.concentration
        if term is not None and term.density not in _PROPER:
            raise FitError(
                f"the hyperprior {term.density} of the concentration gives an improper posterior",
                expected=f"one of {', '.join(_PROPER)}",
                remedy="take one of these, or estimator='map' with uncertainty='plug_in'",
            )

    def _of(self, concentration: Jet) -> Jet:
        assert self.concentration is not None
        return self.concentration.log_density({"concentration": concentration})


def compile_shares(spec: Any, sketch: ShareSketch, held: Array) -> ShareHyperprior:
    """Turn a specification into log densities for the pools of a sketch.

    Parameters
    ----------
    spec
        ``None`` for the default, ``"uniform_shrinkage(c)"`` for the default with another width, or
        a mapping with ``mean`` (``"dirichlet(c)"``, or ``"uniform"`` for ``"dirichlet(1)"``) and
        ``concentration`` (a density of one number).
    sketch
        It gives the size of the median store.
    held
        (D,) coordinates that are known, NaN where free.

    Raises
    ------
    FitError
        If a name or density is unknown, or an argument out of range.
    """
    if isinstance(spec, ShareHyperprior):
        return spec
    given, width = read_parts(
        spec, _NAMES, "shares", {"mean": "dirichlet(1)", "concentration": "gamma(2, 0.1)"}
    )
    weight = _weight(given.get("mean", f"dirichlet({_JEFFREYS})"))
    if "concentration" in given:
        term = read_term("concentration", given["concentration"])
    else:
        median = lower_median(sketch.totals.counts, "value", "count")
        term = Term("concentration", "uniform_shrinkage", (median / width,))
    return ShareHyperprior(
        weight if np.isnan(held[0]) else 0.0, term if np.isnan(held[-1]) else None
    )


def _weight(text: Any) -> float:
    call = read_call(text) if isinstance(text, str) else None
    try:
        found = float(call[1]) if call and call[0] == "dirichlet" else np.nan
    except ValueError:
        found = np.nan
    if call == ("uniform", ""):
        found = 1.0
    if not 0 < found < np.inf:
        raise FitError(
            f"the hyperprior of the mean shares is {text!r}",
            expected="dirichlet(c) with a positive c, the same for all classes, or uniform",
            remedy='write for example {"mean": "dirichlet(0.5)"}',
        )
    return found
