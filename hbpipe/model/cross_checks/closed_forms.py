"""Closed forms as ``uncertainty`` of a posterior: cross-checks for estimates with variances.

``prasad_rao`` and ``morris`` (:mod:`hbpipe.model.cross_checks.fay_herriot`) are symmetric normal
intervals, mean ± z sd with sd the root mean squared error. ``ebci``
(:mod:`hbpipe.model.cross_checks.robust`) is a symmetric interval of no distribution: its
half-length over z is not an sd, so ``sd`` stays the model's plug-in sd, and there is no cdf. With
``ebci(4)`` the kurtosis of θ is bounded by 4.

The prior mean is the generalised least-squares one at the fit's τ̂², and what is held is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.cross_checks.critical import normal_non_coverage
from hbpipe.model.cross_checks.fay_herriot import (
    AreaModel,
    Shrunken,
    area_model,
    morris,
    plug_in,
    prasad_rao,
)
from hbpipe.model.cross_checks.robust import robust_half_length
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.fits import Fit
from hbpipe.model.geometry import LOCATION
from hbpipe.model.integrate import plug_in_nodes
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.update.pools import PosteriorColumns

CLOSED_FORMS = ("prasad_rao", "morris", "ebci")
_EBCI = re.compile(r"ebci(?:\((?P<kurtosis>[^()]*)\))?")


@dataclass(frozen=True)
class ClosedForm:
    """Intervals of ``J`` stores by one of the closed forms.

    Parameters
    ----------
    method
        Its name.
    shrunken
        Means, sds, weights and centres.
    sd_plug_in, variance
        (J,) posterior sd at known hyperparameters; sampling variance, ∞ without an estimate.
    tau_squared, kurtosis
        Of the prior; ``kurtosis`` is None where the interval is that of a normal law.
    nodes
        The point estimate of the hyperparameters.
    """

    method: str
    shrunken: Shrunken
    sd_plug_in: Array
    variance: Array
    tau_squared: float
    kurtosis: float | None
    nodes: Nodes

    def columns(self, levels: Array) -> PosteriorColumns:
        """Posterior columns with quantiles at levels (Q,)."""
        if self.kurtosis is None:
            quantiles = self.law(levels=levels).quantiles
        else:
            quantiles = self._robust_limits(levels, self.kurtosis)
        return PosteriorColumns(
            mean=self.shrunken.mean,
            sd=self.shrunken.sd,
            sd_plug_in=self.sd_plug_in,
            quantiles=quantiles,
            weight=self.shrunken.weight,
            prior_mean=self.shrunken.centre,
            method=np.full(len(self.variance), self.method),
        )

    def law(self, noise: Array | float = 0.0, levels: Array | None = None) -> Description:
        """Describe the normal law of θ, or of an estimate of it with sampling variance ``noise``.

        Raises
        ------
        FitError
            If the intervals are robust ones.
        """
        if self.kurtosis is not None:
            raise FitError(
                "robust intervals are no distribution: they have limits, but no cdf",
                expected="quantiles, with uncertainty='ebci'",
                remedy="use uncertainty='integrated' for probabilities and predictions",
            )
        sd = np.sqrt(self.shrunken.sd**2 + noise)
        return NORMAL.describe(self.shrunken.mean, sd, np.empty(0) if levels is None else levels)

    def normal_non_coverage(self, alpha: float = 0.05) -> Array:
        """Return how often a normal prior's interval of nominal 1 − ``alpha`` may miss, (J,).

        The largest share of stores of this weight, over all laws of θ with the fit's τ² and the
        kurtosis of the ``ebci``; 1/z² without data of its own and with no bound on the kurtosis.
        Armstrong, Kolesár and Plagborg-Møller (2022) advise to report it beside the interval.

        Raises
        ------
        FitError
            If the closed form is not ``ebci``.
        """
        if self.kurtosis is None:
            raise FitError(
                f"{self.method} takes the prior for normal",
                expected="uncertainty='ebci'",
                remedy="ask for robust intervals to learn how often a normal one may miss",
            )
        return normal_non_coverage(self.shrunken.weight, self.kurtosis, alpha)

    def _robust_limits(self, levels: Array, kurtosis: float) -> Array:
        """Mean ± the half-length that is missed with twice the level's distance from its end."""
        limits = np.empty((len(self.variance), len(levels)))
        for place, level in enumerate(levels.tolist()):
            miss, half = 2.0 * min(level, 1.0 - level), np.zeros(len(self.variance))
            if miss < 1.0:
                half = robust_half_length(self.variance, self.tau_squared, kurtosis, miss)
            limits[:, place] = self.shrunken.mean + np.sign(level - 0.5) * half
        return limits


def is_closed_form(uncertainty: str) -> bool:
    """Whether a name is one of the closed forms, an ``ebci`` with a kurtosis included."""
    return str(uncertainty).partition("(")[0] in CLOSED_FORMS


def closed_form(fit: Fit, statistics: Statistics, uncertainty: str) -> ClosedForm:
    """Evaluate a closed form for the stores of ``statistics``, with the model of a fit.

    Raises
    ------
    FitError
        If the family does not have known variances, the estimator no expansion, the kurtosis is
        not a number of at least 1, or the formula does not apply to these stores.
    """
    if set(statistics) != {"estimate", "variance"}:
        raise FitError(
            f"{uncertainty} is for estimates with known variances, not for {fit.family}",
            expected="the family normal_known_variance",
            remedy="use uncertainty='integrated'",
        )
    if fit.pools.prior_form != "single":
        raise FitError(
            f"{uncertainty} is for one normal prior, not for the prior {fit.pools.prior_form}",
            expected="a fit with a single prior",
            remedy="fit with prior='single', or use uncertainty='integrated'",
        )
    name, kurtosis = _parse(uncertainty)
    estimate, variance = statistics["estimate"], statistics["variance"]
    model = _model_of(fit, expand=name == "prasad_rao")
    known = plug_in(model, estimate, variance)
    pools, formulas = fit.pools, {"prasad_rao": prasad_rao, "morris": morris}
    shrunken = formulas[name](model, estimate, variance) if name in formulas else known
    nodes = plug_in_nodes(pools.model, pools.sketch, pools.coordinates)
    return ClosedForm(
        method=name,
        shrunken=shrunken,
        sd_plug_in=known.sd,
        variance=variance,
        tau_squared=model.tau_squared,
        kurtosis=kurtosis,
        nodes=replace(nodes, method=np.array([name])),
    )


def _parse(uncertainty: str) -> tuple[str, float | None]:
    """Split "ebci(4)" into name and kurtosis: ∞ where it is not said, None for the others."""
    if uncertainty in ("prasad_rao", "morris"):
        return uncertainty, None
    found = _EBCI.fullmatch(uncertainty)
    try:
        kurtosis = float((found and found["kurtosis"]) or np.inf)
    except ValueError:
        kurtosis = np.nan
    if found is None or found["kurtosis"] == "" or not kurtosis >= 1:
        raise FitError(
            f"{uncertainty!r} is no robust interval",
            expected="ebci, or ebci(K) with a kurtosis K of at least 1, 3 for a normal law",
            remedy="estimate it with hbpipe.model.cross_checks.robust.prior_moments",
        )
    return "ebci", kurtosis


def _model_of(fit: Fit, *, expand: bool) -> AreaModel:
    """Sum up the stores of a fit; ``expand`` asks for the variance and bias of τ̂² too."""
    rows, held = fit.sketch.rows, fit.pools.held[0]
    mu_held, tau_held = ~np.isnan(held)
    return area_model(
        np.repeat(rows["mean"], rows["n"]),
        np.repeat(rows["size"], rows["n"]),
        None,
        fit.hyperparameters["tau"] ** 2,
        estimator=fit.estimator,
        mu=float(held[LOCATION]) if mu_held else None,
        tau_known=bool(tau_held) or not expand,
    )
