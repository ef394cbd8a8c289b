"""The story of a fit in words: where it began, how it climbed, where it ended and what that means.

For a person who asks why a number is what it is; every figure in it is also a field of the fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbpipe.model.estimation.problem import cases

if TYPE_CHECKING:
    from hbpipe.model.fits import Fit

_ENDINGS = {
    "ok": "It is a proper maximum inside the bounds.",
    "fixed": "Every hyperparameter was held, so nothing was estimated.",
    "no_spread": "There is no spread: the stores differ no more than chance would have it, and a "
    "plug-in posterior has no width.",
    "singular": "The covariance between stores has lost a rank: the data show fewer directions of "
    "spread than there are coefficients.",
    "at_bound": "It is at the edge of what is possible.",
    "not_converged": "The walk stopped before it reached a maximum: do not use these values.",
    "flat": "The likelihood is flat there: the data do not determine the hyperparameters.",
}


def tell(fit: Fit) -> str:
    """Tell a fit in a few sentences."""
    sentences = [_beginning(fit), *_climb(fit), _ending(fit)]
    if fit.at_bound:
        sentences.append(f"On a bound: {', '.join(fit.at_bound)}.")
    return " ".join(sentences)


def _beginning(fit: Fit) -> str:
    stores = f"{fit.n_groups} store" + ("" if fit.n_groups == 1 else "s")
    return (
        f"{fit.family} of {stores} with data, by {fit.estimator}: log likelihood "
        f"{fit.log_marginal_likelihood:.6g}, from {fit.start_log_marginal_likelihood:.6g} at "
        "the start."
    )


def _climb(fit: Fit) -> list[str]:
    if fit.status == "fixed" or fit.estimator.startswith("moments"):
        return []
    if fit.pools.chosen == ["grid"]:
        weights = int(fit.pools.n_estimated[0]) + 1
        return [
            f"{weights} fixed laws have a weight; their weights took {fit.iterations} rounds and "
            f"are {fit.gradient_norm:.2g} standard errors from the maximum at most."
        ]
    starts = len(fit.start_values)
    climb = "One climb"
    if starts > 1:
        agreement = "ended on the same summit" if fit.starts_agree else "found several summits"
        climb = f"{starts} climbs {agreement}; the one kept"
    told = [
        f"{climb} took {fit.iterations} evaluations and is {fit.gradient_norm:.2g} standard "
        "errors from its summit."
    ]
    if fit.eigenvalues.size:
        least, most = fit.eigenvalues[0], fit.eigenvalues[-1]
        told.append(f"Eigenvalues of the scaled curvature: {least:.3g} to {most:.3g}.")
    return told


def _ending(fit: Fit) -> str:
    if fit.estimator.startswith("moments") and fit.status == "ok":
        return "It is an estimate by moments: nothing was maximised."
    if fit.status in _ENDINGS:
        return _ENDINGS[fit.status]
    told = {case.status: case.found for case in cases(fit.pools.model, fit.sketch, fit.estimator)}
    return f"{told[fit.status][0].upper()}{told[fit.status][1:]}."
