"""The likelihoods of five families, store by store, in the notation of ``hbpipe/model/README.md``.

Each is written once and evaluated with scipy on a grid or with jax in a sampler. Hyperparameters
``h`` are named; a store's statistics are ``rows``. η is θ on the line: θ itself, its logit, or its
logarithm. Constants of the data are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.full_bayes.library import Library
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES

Array = NDArray[np.float64]
Named = Mapping[str, Any]
Rows = Mapping[str, Array]


@dataclass(frozen=True)
class Likelihood:
    """What full Bayes needs to know of a family with one θ for each store.

    Parameters
    ----------
    columns
        The statistics that it uses; the first tells the size of a store, 0 without data.
    supports
        Hyperparameter → its range; positive where it is not named.
    complete
        Some hyperparameters → all that a hyperprior may be about.
    guess
        Statistics of the stores with data → crude hyperparameters, and a step of the location.
    log_marginal
        (library, h, rows) → log p(data | h), θ integrated out; rows without data are no rows.
    line
        (library, h) → location and scale of the prior of η, roughly: any would do, as they only
        say where a non-centred sampler moves.
    log_joint
        (library, h, η, rows) → log p(η, data | h).
    theta
        (library, η) → θ.
    law
        (h, rows) → name and parameters of the posterior of θ (``quadrature.LAWS``); None where it
        is not integrated on a grid.
    """

    columns: tuple[str, ...]
    supports: Mapping[str, str]
    complete: Callable[[dict[str, Any]], dict[str, Any]]
    guess: Callable[[Rows], tuple[dict[str, float], float]]
    log_marginal: Callable[[Library, Named, Rows], Any]
    line: Callable[[Library, Named], tuple[Any, Any]]
    log_joint: Callable[[Library, Named, Any, Rows], Any]
    theta: Callable[[Library, Any], Any]
    law: Callable[[Named, Rows], tuple[str, Array, Array]] | None = None


def _log_rising(library: Library, a: Any, y: Any) -> Any:
    """Log Γ(a + y) − log Γ(a), from a = 50 on as the difference of Stirling's series.

    Differences of log Γ itself have no digits left where a is 1e15.
    """
    xp, gammaln = library.np, library.special.gammaln

    def tail(x: Any) -> Any:
        return 1.0 / (12.0 * x) - 1.0 / (360.0 * x**3)

    large = (a + y - 0.5) * xp.log1p(y / a) + y * (xp.log(a) - 1.0) + tail(a + y) - tail(a)
    return xp.where(a < 50.0, gammaln(a + y) - gammaln(a), large)


# --- successes out of trials ----------------------------------------------------------------------


def _complete_beta(h: dict[str, Any]) -> dict[str, Any]:
    if "alpha" in h:
        size = h["alpha"] + h["beta"]
        share = {"mean": h["alpha"] / size, "mean_complement": h["beta"] / size}
        return {**h, **share, "concentration": size}
    rest = h.get("mean_complement", 1.0 - h["mean"])
    return {**h, "alpha": h["mean"] * h["concentration"], "beta": rest * h["concentration"]}


def _guess_beta(rows: Rows) -> tuple[dict[str, float], float]:
    y, n = rows["successes"].sum(), rows["trials"].sum()
    mean, size = (y + 0.5) / (n + 1.0), float(np.median(rows["trials"]))
    named = {"mean": mean, "concentration": size}
    return {k: float(v) for k, v in _complete_beta(named).items()}, 1.0


def _marginal_beta(library: Library, h: Named, rows: Rows) -> Any:
    y, n = rows["successes"], rows["trials"]
    parts = [_log_rising(library, h["alpha"], y), _log_rising(library, h["beta"], n - y)]
    return sum(parts) - _log_rising(library, h["alpha"] + h["beta"], n)


def _line_beta(library: Library, h: Named) -> tuple[Any, Any]:
    xp, a, b = library.np, h["alpha"], h["beta"]
    return xp.log(a) - xp.log(b), xp.sqrt(1.0 / a + 1.0 / b)


def _joint_beta(library: Library, h: Named, eta: Any, rows: Rows) -> Any:
    y, failures = rows["successes"], rows["trials"] - rows["successes"]
    log_theta, log_rest = (-library.np.logaddexp(0.0, sign * eta) for sign in (-1.0, 1.0))
    # The density of η has dθ/dη = θ(1 − θ), so the powers are α and β, not α − 1 and β − 1.
    total = (h["alpha"] + y) * log_theta + (h["beta"] + failures) * log_rest
    return total - library.special.betaln(h["alpha"], h["beta"])


BETA_BINOMIAL = Likelihood(
    columns=("trials", "successes"),
    supports={"mean": "unit"},
    complete=_complete_beta,
    guess=_guess_beta,
    log_marginal=_marginal_beta,
    line=_line_beta,
    log_joint=_joint_beta,
    theta=lambda library, eta: library.special.expit(eta),
    law=lambda h, rows: (
        "beta",
        h["alpha"] + rows["successes"],
        h["beta"] + (rows["trials"] - rows["successes"]),
    ),
)


# --- counts with exposure -------------------------------------------------------------------------


def _complete_gamma(h: dict[str, Any]) -> dict[str, Any]:
    found = dict(h)
    if "mean" not in h:
        found["mean"] = h["shape"] / h["rate"]
    elif "shape" not in h:
        found["shape"] = h["mean"] * h["rate"]
    else:
        found["rate"] = h["shape"] / h["mean"]
    return found


def _guess_gamma(rows: Rows) -> tuple[dict[str, float], float]:
    mean = (rows["count"].sum() + 0.5) / rows["exposure"].sum()
    return _complete_gamma({"mean": float(mean), "rate": float(np.median(rows["exposure"]))}), 1.0


def _marginal_gamma(library: Library, h: Named, rows: Rows) -> Any:
    xp, y, exposure = library.np, rows["count"], rows["exposure"]
    shape, rate = h["shape"], h["rate"]
    return (
        _log_rising(library, shape, y)
        - shape * xp.log1p(exposure / rate)
        - y * xp.log(rate + exposure)
    )


def _joint_gamma(library: Library, h: Named, eta: Any, rows: Rows) -> Any:
    xp, shape, rate = library.np, h["shape"], h["rate"]
    total = (shape + rows["count"]) * eta - (rate + rows["exposure"]) * xp.exp(eta)
    return total + shape * xp.log(rate) - library.special.gammaln(shape)


GAMMA_POISSON = Likelihood(
    columns=("exposure", "count"),
    supports={},
    complete=_complete_gamma,
    guess=_guess_gamma,
    log_marginal=_marginal_gamma,
    line=lambda library, h: (library.np.log(h["mean"]), 1.0 / library.np.sqrt(h["shape"])),
    log_joint=_joint_gamma,
    theta=lambda library, eta: library.np.exp(eta),
    law=lambda h, rows: ("gamma", h["shape"] + rows["count"], h["rate"] + rows["exposure"]),
)


# --- means ----------------------------------------------------------------------------------------


def _complete_normal(h: dict[str, Any]) -> dict[str, Any]:
    square = h["tau"] ** 2 if "tau" in h else h["tau_squared"]
    odds = square / h.get("sigma", 1.0) ** 2
    return {**h, "tau": square**0.5, "tau_squared": square, "odds": odds}


def _spread_of_means(mean: Array, variance: Array) -> tuple[dict[str, float], float]:
    """Guess μ and τ from means of known variance; the step of μ is their sd."""
    sd = float(np.sqrt(np.var(mean) + np.median(variance)))
    return {"mu": float(np.average(mean, weights=1.0 / variance)), "tau": sd}, sd


def _guess_normal(rows: Rows) -> tuple[dict[str, float], float]:
    n, mean, m2 = rows["n"], rows["mean"], rows["m2"]
    freedom = float(np.sum(n - 1.0))
    within = float(np.sum(m2)) / freedom if freedom > 0 else 0.0
    variance = within if within > 0 else float(np.var(mean)) or 1.0
    named, sd = _spread_of_means(mean, variance / n)
    return _complete_normal({**named, "sigma": variance**0.5}), sd


def _marginal_normal(library: Library, h: Named, rows: Rows) -> Any:
    xp, n, tau, sigma = library.np, rows["n"], h["tau"], h["sigma"]
    variance = sigma**2 + n * tau**2
    within = (n - 1.0) * xp.log(sigma) + 0.5 * rows["m2"] / sigma**2
    between = 0.5 * xp.log(variance) + 0.5 * n * (rows["mean"] - h["mu"]) ** 2 / variance
    return -within - between


def _prior_normal(library: Library, h: Named, eta: Any) -> Any:
    return -library.np.log(h["tau"]) - 0.5 * ((eta - h["mu"]) / h["tau"]) ** 2


def _joint_normal(library: Library, h: Named, eta: Any, rows: Rows) -> Any:
    n, squares = rows["n"], rows["m2"] + rows["n"] * (rows["mean"] - eta) ** 2
    likelihood = -n * library.np.log(h["sigma"]) - 0.5 * squares / h["sigma"] ** 2
    return _prior_normal(library, h, eta) + likelihood


def _law_normal(h: Named, precision: Any, estimate: Array) -> tuple[str, Array, Array]:
    """Combine the prior with estimates of given precision: N(mean, variance)."""
    own = 1.0 / h["tau"] ** 2
    total = own + precision
    return "normal", (own * h["mu"] + precision * estimate) / total, 1.0 / total


NORMAL = Likelihood(
    columns=("n", "mean", "m2"),
    supports={"mu": "real"},
    complete=_complete_normal,
    guess=_guess_normal,
    log_marginal=_marginal_normal,
    line=lambda library, h: (h["mu"], h["tau"]),
    log_joint=_joint_normal,
    theta=lambda library, eta: eta,
    law=lambda h, rows: _law_normal(h, rows["n"] / h["sigma"] ** 2, rows["mean"]),
)


def _guess_known(rows: Rows) -> tuple[dict[str, float], float]:
    named, sd = _spread_of_means(rows["estimate"], 1.0 / rows["precision"])
    return _complete_normal(named), sd


def _marginal_known(library: Library, h: Named, rows: Rows) -> Any:
    variance = 1.0 / rows["precision"] + h["tau"] ** 2
    distance = (rows["estimate"] - h["mu"]) ** 2 / variance
    return -0.5 * library.np.log(variance) - 0.5 * distance


NORMAL_KNOWN_VARIANCE = Likelihood(
    columns=("precision", "estimate"),
    supports={"mu": "real"},
    complete=_complete_normal,
    guess=_guess_known,
    log_marginal=_marginal_known,
    line=lambda library, h: (h["mu"], h["tau"]),
    log_joint=lambda library, h, eta, rows: (
        _prior_normal(library, h, eta) - 0.5 * rows["precision"] * (rows["estimate"] - eta) ** 2
    ),
    theta=lambda library, eta: eta,
    law=lambda h, rows: _law_normal(h, rows["precision"], rows["estimate"]),
)


# --- means, with a variance for each store --------------------------------------------------------


def _complete_variances(h: dict[str, Any]) -> dict[str, Any]:
    square = h["s0"] ** 2 if "s0" in h else h["s0_squared"]
    return {**h, "s0": square**0.5, "s0_squared": square}


def _guess_variances(rows: Rows) -> tuple[dict[str, float], float]:
    named, sd = _guess_normal(rows)
    square = named["sigma"] ** 2
    shares = {"kappa": square / named["tau_squared"], "d0": 2.0 * FEWEST_DEGREES}
    return _complete_variances({"mu": named["mu"], **shares, "s0_squared": square}), sd


def _log_t(library: Library, h: Named, size: Any, squares: Any) -> Any:
    """Integrate σ_j² out of ``size`` values whose squares around their means are ``squares``."""
    xp, half = library.np, 0.5 * h["d0"]
    rising = _log_rising(library, half, 0.5 * size) - 0.5 * size * xp.log(half)
    odds = squares / (h["d0"] * h["s0_squared"])
    return rising - 0.5 * size * xp.log(h["s0_squared"]) - (half + 0.5 * size) * xp.log1p(odds)


def _marginal_variances(library: Library, h: Named, rows: Rows) -> Any:
    n, kappa = rows["n"], h["kappa"]
    squares = rows["m2"] + n * kappa / (kappa + n) * (rows["mean"] - h["mu"]) ** 2
    return _log_t(library, h, n, squares) - 0.5 * library.np.log1p(n / kappa)


def _joint_variances(library: Library, h: Named, eta: Any, rows: Rows) -> Any:
    """θ_j counts as one more value, of weight κ; σ_j² is integrated out."""
    n, kappa = rows["n"], h["kappa"]
    squares = rows["m2"] + n * (rows["mean"] - eta) ** 2 + kappa * (eta - h["mu"]) ** 2
    return _log_t(library, h, n + 1.0, squares) + 0.5 * library.np.log(kappa)


NORMAL_INVERSE_GAMMA = Likelihood(
    columns=("n", "mean", "m2"),
    supports={"mu": "real", "d0": "above"},
    complete=_complete_variances,
    guess=_guess_variances,
    log_marginal=_marginal_variances,
    line=lambda library, h: (h["mu"], h["s0"] / library.np.sqrt(h["kappa"])),
    log_joint=_joint_variances,
    theta=lambda library, eta: eta,
)

LIKELIHOODS = {
    "beta_binomial": BETA_BINOMIAL,
    "gamma_poisson": GAMMA_POISSON,
    "normal": NORMAL,
    "normal_known_variance": NORMAL_KNOWN_VARIANCE,
    "normal_inverse_gamma": NORMAL_INVERSE_GAMMA,
}
