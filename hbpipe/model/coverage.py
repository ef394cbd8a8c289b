"""Do the intervals cover? A simulation study of every family, over pool sizes and signal ratios.

    python -m hbpipe.model.coverage --families normal --groups 10,50 --ratios 0.05,0.25 \
        --replicates 400 --seed 1

Each replicate draws a design (the stores' sizes), true effects and data, fits the pool and takes
nominal 95 % intervals. Coverage is Rao-Blackwellised: not whether the one true effect lies
inside, but the exact probability of the interval under the law of the effect given the data and
the *true* hyperparameters. That is unbiased for coverage and far less noisy. Replicates have
designs of their own, so the error printed includes differences between designs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.pools import update_pools

METHODS = ("plug_in", "first_order", "integrated", "auto")
LEVELS = (0.025, 0.975)
HEADER = (
    f"{'family':<22}{'J':>6}{'r':>7} {'method':<12}"
    f"{'coverage':>9}{'± se':>8}{'length':>8}{'5th pc':>8}{'integrated':>11}"
)
#: Replicates fitted at once.
_BATCH = 100


@dataclass(frozen=True)
class Truth:
    """Data of ``G`` replicates of ``J`` stores, and the hyperparameters they come from.

    ``statistics`` name -> (G J,); ``hyperparameters`` name -> (G,).
    """

    statistics: Mapping[str, NDArray[Any]]
    hyperparameters: dict[str, Array]


@dataclass(frozen=True)
class Cell:
    """Coverage of one method in one cell.

    ``coverage`` and ``error`` (its standard error over replicates), ``length`` relative to the
    interval with the true hyperparameters known, ``worst`` the 5th percentile of the coverage of
    a replicate, ``integrated`` the share of replicates that were integrated.
    """

    family: str
    groups: int
    ratio: float
    method: str
    coverage: float
    error: float
    length: float
    worst: float
    integrated: float

    def line(self) -> str:
        """Return one line of the table."""
        return (
            f"{self.family:<22}{self.groups:>6}{self.ratio:>7g} {self.method:<12}"
            f"{self.coverage:>9.4f}{self.error:>8.4f}{self.length:>8.3f}"
            f"{self.worst:>8.3f}{self.integrated:>11.2f}"
        )


def _sizes(rng: np.random.Generator, shape: tuple[int, int], low: float, high: float) -> Array:
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), shape)))


def _normal(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Values with σ = 1 unknown, 2 to 100 a store."""
    n = np.ceil(_sizes(rng, (replicates, groups), 1.0, 100.0)).astype(np.int64) + 1
    tau = np.sqrt(ratio / np.median(n, axis=1))
    theta = rng.normal(size=n.shape) * tau[:, None]
    statistics = {
        "n": n.ravel(),
        "mean": (theta + rng.normal(size=n.shape) / np.sqrt(n)).ravel(),
        "m2": rng.chisquare(n - 1).ravel(),
    }
    return Truth(statistics, {"mu": 0.0 * tau, "tau": tau, "sigma": 0.0 * tau + 1.0})


def _known_variance(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Variances log-normal with log-sd 0.3 or 1, or 1/n, in turn."""
    shape = (replicates, groups)
    turn = np.arange(replicates)[:, None] % 3
    log_normal = np.exp(np.where(turn == 0, 0.3, 1.0) * rng.normal(size=shape))
    variance = np.where(turn == 2, 1.0 / _sizes(rng, shape, 5.0, 400.0), log_normal)
    tau = np.sqrt(ratio * np.median(variance, axis=1))
    theta = rng.normal(size=shape) * tau[:, None]
    estimate = theta + rng.normal(size=shape) * np.sqrt(variance)
    statistics = {"estimate": estimate.ravel(), "variance": variance.ravel()}
    return Truth(statistics, {"mu": 0.0 * tau, "tau": tau})


def _beta_binomial(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.02, 0.1 and 0.3 in turn, 5 to 400 trials."""
    n = np.ceil(_sizes(rng, (replicates, groups), 4.0, 400.0)).astype(np.int64)
    mean = np.array([0.02, 0.1, 0.3])[np.arange(replicates) % 3]
    size = np.median(n, axis=1) / ratio
    theta = rng.beta((mean * size)[:, None], ((1.0 - mean) * size)[:, None], n.shape)
    statistics = {"successes": rng.binomial(n, theta).ravel(), "trials": n.ravel()}
    return Truth(statistics, {"alpha": mean * size, "beta": (1.0 - mean) * size})


def _gamma_poisson(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.02, 0.2 and 2 in turn, exposures 5 to 400."""
    exposure = _sizes(rng, (replicates, groups), 5.0, 400.0)
    mean = np.array([0.02, 0.2, 2.0])[np.arange(replicates) % 3]
    rate = np.median(exposure, axis=1) / ratio
    theta = rng.gamma((mean * rate)[:, None], 1.0, exposure.shape) / rate[:, None]
    statistics = {"count": rng.poisson(theta * exposure).ravel(), "exposure": exposure.ravel()}
    return Truth(statistics, {"shape": mean * rate, "rate": rate})


DESIGNS: dict[str, Callable[[np.random.Generator, int, int, float], Truth]] = {
    "normal": _normal,
    "normal_known_variance": _known_variance,
    "beta_binomial": _beta_binomial,
    "gamma_poisson": _gamma_poisson,
}


def study(
    family: str,
    groups: int,
    ratio: float,
    *,
    replicates: int,
    seed: int,
    methods: Sequence[str] = METHODS,
) -> list[Cell]:
    """Coverage of the methods in one cell.

    Parameters
    ----------
    family
        A name of ``DESIGNS``.
    groups
        Stores of a pool, ``J``.
    ratio
        Signal ratio r = τ² / median sampling variance (median size / concentration or rate).
    replicates
        Pools to simulate. For counts, pools without a single event are left out.
    seed
        Of the random numbers; a cell does not depend on which other cells are run.
    methods
        Of ``METHODS``.
    """
    rng = np.random.default_rng([seed, groups, round(1000 * ratio), list(DESIGNS).index(family)])
    model = get_family(family)
    parts: dict[str, list[tuple[Array, Array, NDArray[np.bool_]]]] = {m: [] for m in methods}
    for begin in range(0, replicates, _BATCH):
        truth = DESIGNS[family](rng, min(_BATCH, replicates - begin), groups, ratio)
        for method, part in _cover(model, truth, groups, methods).items():
            parts[method].append(part)
    return [
        _cell(family, groups, ratio, method, [np.concatenate(p) for p in zip(*found, strict=True)])
        for method, found in parts.items()
    ]


def _cell(family: str, groups: int, ratio: float, method: str, found: list[Array]) -> Cell:
    coverage, length, integrated = found
    return Cell(
        family=family,
        groups=groups,
        ratio=ratio,
        method=method,
        coverage=float(np.mean(coverage)),
        error=float(np.std(coverage, ddof=1) / np.sqrt(len(coverage))),
        length=float(np.mean(length)),
        worst=float(np.quantile(coverage, 0.05)),
        integrated=float(np.mean(integrated)),
    )


def _cover(
    model: Family, truth: Truth, groups: int, methods: Sequence[str]
) -> dict[str, tuple[Array, Array, NDArray[np.bool_]]]:
    """Mean coverage and relative length of each replicate, (G,), by method."""
    pools = np.repeat(np.arange(len(next(iter(truth.hyperparameters.values())))), groups)
    fits = fit_pools(model, model.compress(truth.statistics, pools, pools[-1] + 1))
    at = {name: values[pools] for name, values in truth.hyperparameters.items()}
    law = model.describe(model.update(truth.statistics, at), LEVELS)
    oracle = law.quantiles[:, 1] - law.quantiles[:, 0]
    eventful = _eventful(truth, groups)
    out = {}
    for method in methods:
        nodes = integrate_pools(fits, uncertainty=method)
        columns = update_pools(
            model, nodes, fits.hyperparameters, truth.statistics, pools, quantiles=LEVELS
        )
        low, high = columns.quantiles[:, 0], columns.quantiles[:, 1]
        inside = (law.cdf(high) - law.cdf(low)).reshape(-1, groups).mean(axis=1)
        length = ((high - low) / oracle).reshape(-1, groups).mean(axis=1)
        out[method] = (inside[eventful], length[eventful], nodes.method[eventful] == "integrated")
    return out


def _eventful(truth: Truth, groups: int) -> NDArray[np.bool_]:
    """Replicates with at least one event; all of them where there are no events to count."""
    events = truth.statistics.get("successes", truth.statistics.get("count"))
    if events is None:
        return np.ones(len(next(iter(truth.hyperparameters.values()))), dtype=bool)
    return np.asarray(events.reshape(-1, groups).sum(axis=1) > 0)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per cell and method; 1 when ``auto`` covers less than ``--floor``."""
    parser = argparse.ArgumentParser(
        prog="python -m hbpipe.model.coverage", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--families", default=",".join(DESIGNS), help="comma-separated names")
    parser.add_argument("--groups", default="10,50,200", help="stores of a pool")
    parser.add_argument("--ratios", default="0.05,0.25,1,4", help="signal ratios")
    parser.add_argument("--replicates", type=int, default=200, help="pools in each cell")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated names")
    parser.add_argument("--floor", type=float, help="least coverage of auto, beyond two errors")
    options = parser.parse_args(arguments)
    low: list[Cell] = []
    print(HEADER)
    for family in options.families.split(","):
        for groups in _numbers(options.groups):
            for ratio in _numbers(options.ratios):
                cells = study(
                    family,
                    int(groups),
                    ratio,
                    replicates=options.replicates,
                    seed=options.seed,
                    methods=options.methods.split(","),
                )
                print("\n".join(cell.line() for cell in cells), flush=True)
                low += [cell for cell in cells if _is_below(cell, options.floor)]
    if low:
        print(f"{len(low)} cell(s) of auto cover less than {options.floor}", file=sys.stderr)
    return 1 if low else 0


def _is_below(cell: Cell, floor: float | None) -> bool:
    """Tell whether a cell of ``auto`` misses the floor by more than two Monte Carlo errors."""
    return floor is not None and cell.method == "auto" and cell.coverage + 2 * cell.error < floor


if __name__ == "__main__":
    sys.exit(main())
