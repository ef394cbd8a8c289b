"""One pool held against full Bayes: which method, the answer, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.full_bayes.answer import Answer
from hbpipe.full_bayes.comparison import Comparison, Published, compare
from hbpipe.full_bayes.problem import Problem, pose
from hbpipe.full_bayes.quadrature import integrate, is_affordable
from hbpipe.full_bayes.regression import Coefficients, pose_regression
from hbpipe.full_bayes.sampler import Effort, sample
from hbpipe.full_bayes.target import OneTheta

By = Literal["auto", "nuts", "quadrature"]

#: NUTS evaluates the likelihood of every distinct store some hundred thousand times.
MOST_ROWS_SAMPLED = 20_000


@dataclass(frozen=True)
class Audited:
    """What came of one pool: comparisons, or why there are none."""

    comparisons: tuple[Comparison, ...]
    story: str
    trouble: str | None = None
    answer: Answer | None = None


def audit_pool(
    family: str,
    statistics: Mapping[str, NDArray[Any]],
    chosen: NDArray[np.int64],
    published: Published,
    *,
    levels: tuple[float, float],
    hyperprior: Any = None,
    fixed: Mapping[str, Any] | None = None,
    by: By = "auto",
    seed: int = 1,
    effort: Effort | None = None,
) -> Audited:
    """Compare published posteriors of some stores of a pool with full Bayes.

    Parameters
    ----------
    family, statistics
        The family, and the statistics of all stores of the pool, (J, ...), as they were fitted.
    chosen, published
        Numbers of the stores that are compared, and their posteriors, (J', T).
    levels
        Of the published interval.
    hyperprior, fixed
        As in ``hbpipe.fit``.
    by
        ``auto`` takes a grid where there are at most two free hyperparameters, or three and few
        stores, and NUTS otherwise.
    seed, effort
        Of the sampler.

    Returns
    -------
    Audited
        Without comparisons where full Bayes is out of reach or its chains did not converge;
        ``trouble`` says why.

    Raises
    ------
    ConfigError
        Where NUTS is wanted and numpyro is not installed.
    """
    options: dict[str, Any] = {"hyperprior": hyperprior, "fixed": fixed}
    try:
        if family == "normal_regression":
            answer = _sampled(
                pose_regression(statistics, chosen, **options), levels, by, seed, effort
            )
        else:
            problem = pose(family, statistics, chosen, **options)
            answer = _of_problem(problem, levels, by, seed, effort)
    except FitError as error:
        return Audited((), "no full Bayes", str(error))
    if answer.trouble is not None:
        return Audited((), answer.story, answer.trouble, answer)
    return Audited(tuple(compare(published, answer)), answer.story, None, answer)


def _of_problem(
    problem: Problem, levels: tuple[float, float], by: By, seed: int, effort: Effort | None
) -> Answer:
    grid = is_affordable(problem)
    if by == "quadrature" or (by == "auto" and grid):
        if not grid:
            raise FitError(
                f"a grid of {len(problem.axes)} hyperparameters over {len(problem.counts)} "
                "distinct stores is out of reach",
                where={"family": problem.family},
                remedy="--by nuts, or a smaller pool",
            )
        return integrate(problem, levels)
    return _sampled(OneTheta(problem), levels, by, seed, effort)


def _sampled(
    target: OneTheta | Coefficients,
    levels: tuple[float, float],
    by: By,
    seed: int,
    effort: Effort | None,
) -> Answer:
    if by == "quadrature":
        raise FitError(
            "a covariance has more hyperparameters than a grid can hold", remedy="--by nuts"
        )
    if target.rows > MOST_ROWS_SAMPLED:
        raise FitError(
            f"the pool has {target.rows} distinct stores",
            expected=f"{MOST_ROWS_SAMPLED} at most for NUTS",
            remedy="--by quadrature where the family allows it, or a smaller pool",
        )
    return sample(target, levels, seed=seed, effort=effort)
