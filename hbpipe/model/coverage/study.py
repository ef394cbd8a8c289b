"""Coverage of nominal 95 % intervals, method by method, in one cell of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.coverage.designs import DESIGNS, Design, Truth
from hbpipe.model.coverage.grids import GRIDS
from hbpipe.model.coverage.mixtures import MIXTURES
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.update.pools import update_pools

#: Every design by name.
STUDIED = DESIGNS | MIXTURES | GRIDS
METHODS = ("plug_in", "first_order", "integrated", "auto")
LEVELS = (0.025, 0.975)
HEADER = (
    f"{'family':<30}{'J':>6}{'r':>7} {'method':<12}"
    f"{'coverage':>9}{'± se':>8}{'length':>8}{'5th pc':>8}{'integrated':>11}{'pools':>7}"
)
#: Stores, and replicates, that are fitted at once.
_STORES, _BATCH = 20_000, 100
#: Replicates below which a standard error is not believed.
_LEAST = 40

#: Of each replicate: coverage, relative length, whether it was integrated; (G,) each.
Covered: TypeAlias = "tuple[Array, Array, NDArray[np.bool_]]"


@dataclass(frozen=True)
class Cell:
    """Coverage of one method in one cell.

    ``coverage`` and ``error`` (its standard error over replicates), ``length`` relative to the
    interval with the true hyperparameters known, ``worst`` the 5th percentile of the coverage of
    a replicate, ``integrated`` the share of replicates that were integrated, ``pools`` their
    number.
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
    pools: int

    def line(self) -> str:
        """Return one line of the table."""
        return (
            f"{self.family:<30}{self.groups:>6}{self.ratio:>7g} {self.method:<12}"
            f"{self.coverage:>9.4f}{self.error:>8.4f}{self.length:>8.3f}"
            f"{self.worst:>8.3f}{self.integrated:>11.2f}{self.pools:>7}"
        )


def study(
    family: str,
    groups: int,
    ratio: float,
    *,
    replicates: int,
    seed: int,
    methods: Sequence[str] = METHODS,
    error: float = 0.0,
) -> list[Cell]:
    """Coverage of the methods in one cell.

    Parameters
    ----------
    family
        A name of ``STUDIED``.
    groups
        Stores of a pool, ``J``.
    ratio
        Signal ratio r = τ² / median sampling variance (median size / concentration or rate).
    replicates
        Pools to simulate at the most. For counts, pools without a single event are left out.
    seed
        Of the random numbers; a cell does not depend on which other cells are run.
    methods
        Of ``METHODS``.
    error
        Standard error of every method but ``plug_in`` at which a cell is done before all its
        replicates are.
    """
    rng = np.random.default_rng([seed, groups, round(1000 * ratio), list(STUDIED).index(family)])
    design = STUDIED[family]
    model = get_family(design.family or family, design.size, prior=design.prior)
    parts: dict[str, list[Covered]] = {method: [] for method in methods}
    cells: list[Cell] = []
    done, batch = 0, min(_BATCH, max(_LEAST, _STORES // groups))
    while done < replicates and not _settled(cells, error):
        truth = design.draw(rng, min(batch, replicates - done), groups, ratio)
        for method, part in _cover(model, design, truth, groups, methods).items():
            parts[method].append(part)
        cells = [_cell(family, groups, ratio, method, found) for method, found in parts.items()]
        done += batch
    return cells


def _settled(cells: Sequence[Cell], error: float) -> bool:
    done = [c.pools >= _LEAST and (c.error <= error or c.method == "plug_in") for c in cells]
    return bool(done) and all(done)


def _cell(family: str, groups: int, ratio: float, method: str, parts: Sequence[Covered]) -> Cell:
    coverage, length, integrated = (np.concatenate(part) for part in zip(*parts, strict=True))
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
        pools=len(coverage),
    )


def _cover(
    model: Family, design: Design, truth: Truth, groups: int, methods: Sequence[str]
) -> dict[str, Covered]:
    """Mean coverage and relative length of each replicate, by method."""
    replicates = len(next(iter(truth.hyperparameters.values())))
    pools = np.repeat(np.arange(replicates), groups)
    fits = fit_pools(model, model.compress(truth.statistics, pools, replicates))
    at = {name: values[pools] for name, values in truth.hyperparameters.items()}
    law = model.describe(model.update(truth.statistics, at), LEVELS)
    oracle = law.quantiles[..., 1] - law.quantiles[..., 0]
    eventful = _eventful(truth, groups)

    def of_replicate(values: Array) -> Array:
        """Average over the stores of a replicate, and the terms that are looked at."""
        several = values[:, list(design.terms)] if design.terms else values
        return np.asarray(several.reshape(replicates, -1).mean(axis=1)[eventful])

    out = {}
    for method in methods:
        nodes = integrate_pools(fits, uncertainty=method)
        limits = update_pools(
            model, nodes, fits.hyperparameters, truth.statistics, pools, quantiles=LEVELS
        ).quantiles
        low, high = limits[..., 0], limits[..., 1]
        inside = of_replicate(law.cdf(high) - law.cdf(low))
        length = of_replicate((high - low) / oracle)
        out[method] = (inside, length, nodes.method[eventful] == "integrated")
    return out


def _eventful(truth: Truth, groups: int) -> NDArray[np.bool_]:
    """Replicates with at least one event; all of them where there are no events to count."""
    events = truth.statistics.get("successes", truth.statistics.get("count"))
    if events is None:
        return np.ones(len(next(iter(truth.hyperparameters.values()))), dtype=bool)
    return np.asarray(events.reshape(-1, groups).sum(axis=1) > 0)
