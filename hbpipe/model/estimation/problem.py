"""One estimation problem: what is maximised, over which coordinates, and what data cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.estimation import adjusted, edge
from hbpipe.model.family import Array, Codes, Degeneracy, Derivatives, Family
from hbpipe.model.names import unknown

ESTIMATORS = ("ml", "reml", "map", "moments")
#: Those whose likelihood may be adjusted, as in ``ml:chung``.
ADJUSTABLE = ("ml", "reml")


@dataclass(frozen=True)
class Problem:
    """The objective of ``G`` pools and the coordinates it is maximised over.

    Parameters
    ----------
    held
        (G, D) fixed by the user, NaN elsewhere.
    pinned
        (G, D) determined by a degeneracy of the data, NaN elsewhere.
    status
        (G,) the degeneracy's word, "" where there is none.
    identified
        (G,) False where the data leave an estimate open.
    restricted
        Whether the likelihood is REML's.
    prior
        None, or log density of the hyperparameters with derivatives in the coordinates.
    power
        (G,) power of the spread that multiplies an adjusted likelihood, zero for none.
    shut
        (G, D) bounds at which the hyperprior's density is 0; None where there is none.
    """

    family: Family
    sketch: Any
    held: Array
    pinned: Array
    status: NDArray[np.str_]
    identified: NDArray[np.bool_]
    restricted: bool
    prior: Any = None
    power: Array | None = None
    shut: NDArray[np.bool_] | None = None
    _cut: dict[bytes, Any] = field(default_factory=dict, repr=False)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Coordinates to estimate, (G, D)."""
        return np.isnan(self.held) & np.isnan(self.pinned)

    def select(self, pools: Codes) -> Problem:
        """Return the problem of some pools, any of them several times."""

        def of(values: Any) -> Any:
            return None if values is None else values[pools]

        return Problem(
            self.family,
            self.sketch.select(pools),
            of(self.held),
            of(self.pinned),
            of(self.status),
            of(self.identified),
            self.restricted,
            None if self.prior is None else self.prior.select(pools),
            of(self.power),
            of(self.shut),
        )

    def settle(self, coordinates: Array) -> Array:
        """Put held and pinned coordinates at their values and the others inside the bounds."""
        lower, upper = self.family.bounds
        inside = np.clip(coordinates, lower, upper)
        if self.power is not None:
            inside = adjusted.inside(
                self.family, inside, self.power, self.family.scale(self.sketch)
            )
        if self.shut is not None:
            inside = edge.inside(self.family, self.shut, inside, self.family.scale(self.sketch))
        inside = np.where(np.isnan(self.pinned), inside, self.pinned)
        return np.where(np.isnan(self.held), inside, self.held)

    def log_likelihood(self, coordinates: Array, pools: Codes) -> Derivatives:
        """Log marginal likelihood of some pools (restricted under REML)."""
        sketch = self._sketch_of(pools)
        terms = [self.family.log_marginal(sketch, coordinates)]
        if self.restricted and self.family.log_restriction is not None:
            terms.append(self.family.log_restriction(sketch, coordinates))
        return _add(terms)

    def objective(self, coordinates: Array, pools: Codes) -> Derivatives:
        """Evaluate what is maximised: the log likelihood, plus the log hyperprior or penalty."""
        terms = [self.log_likelihood(coordinates, pools)]
        if self.prior is not None:
            prior = self.prior if len(pools) == len(self.held) else self.prior.select(pools)
            terms.append(prior(coordinates))
        if self.power is not None:
            terms.append(adjusted.log_penalty(self.family, self.power[pools], coordinates))
        value, gradient, hessian = _add(terms)
        if self.shut is not None:
            refused = edge.on_closed(self.family, (self.shut & self.free)[pools], coordinates)
            value = np.where(refused, -np.inf, value)
        return value, gradient, hessian

    def _sketch_of(self, pools: Codes) -> Any:
        """Cut the sketch, and keep the last cut: rounds with the same pools repeat."""
        if len(pools) == len(self.held):
            return self.sketch
        key = np.asarray(pools).tobytes()
        if key not in self._cut:
            self._cut.clear()
            self._cut[key] = self.sketch.select(pools)
        return self._cut[key]


def _add(terms: list[Derivatives]) -> Derivatives:
    value, gradient, hessian = (sum(part[1:], part[0]) for part in zip(*terms, strict=True))
    return value, gradient, hessian


def read_estimator(family: Family, estimator: str) -> tuple[str, str]:
    """Split "moments:hedges" or "reml:li_lahiri" into kind and variant, "" for none.

    Raises
    ------
    FitError
        For an unknown estimator, or one that the family does not have.
    """
    kind, _, variant = str(estimator).partition(":")
    if kind not in ESTIMATORS or (variant and kind == "map"):
        raise unknown("estimator", estimator, ESTIMATORS)
    if variant and kind in ADJUSTABLE and variant not in adjusted.POWERS:
        known = [f"{kind}:{name}" for name in adjusted.POWERS]
        raise unknown("estimator", estimator, (*ESTIMATORS, *known))
    if variant and kind in ADJUSTABLE and len(family.spreads) > 1:
        raise FitError(
            f"{family.name} has a covariance between stores, and {variant} adjusts one spread",
            expected="ml, reml, map or moments",
            remedy="keep the spreads off zero by a hyperprior of tau and estimator='map'",
        )
    if kind == "reml" and family.log_restriction is None:
        raise FitError(
            f"{family.name} has no restricted likelihood",
            expected="reml with the normal families only",
            remedy="use estimator='ml' or 'map'",
        )
    if kind == "moments":
        variant = variant or next(iter(family.moments))
        if variant not in family.moments:
            raise unknown("moment estimator", variant, tuple(family.moments))
    return kind, variant


def hold(family: Family, fixed: Mapping[str, Any], n_pools: int) -> Array:
    """Turn fixed hyperparameters into held coordinates, (G, D) with NaN where free.

    Raises
    ------
    FitError
        For unknown names, values outside their range, and values that contradict each other.
    """
    for name in fixed:
        if name not in family.hyperparameters:
            raise unknown("hyperparameter", name, family.hyperparameters)
    shape = (n_pools, len(family.coordinates))
    if not fixed:
        return np.full(shape, np.nan)
    values = {name: _number(family, name, value) for name, value in fixed.items()}
    with np.errstate(all="ignore"):
        stated = family.to_coordinates(values)
        _check_pools(family, stated, n_pools, tuple(fixed))
        held = np.broadcast_to(stated, shape).copy()
        implied = family.from_coordinates(held)
    lower, upper = family.bounds
    for name, value in values.items():
        # An element of a vector or matrix, or the value of a pool, that is NaN is free.
        given = ~np.isnan(value) | (value.ndim == 0)
        known = np.broadcast_to(given, implied[name].shape)
        outside = np.any((held < lower) | (held > upper)) or np.any(np.isinf(value))
        # A value that comes back changed lies outside the range of the coordinates, was given
        # together with others that say something else, or holds none of them by itself.
        same = np.isclose(implied[name], value, rtol=1e-6, atol=1e-300)
        if outside or not np.all(same | ~known):
            raise FitError(
                f"{name} cannot be held at {value.tolist()}",
                where={"family": family.name},
                expected="possible values that do not contradict the other fixed ones",
                remedy="correct the value, or hold fewer or more hyperparameters",
            )
    return held


def _check_pools(family: Family, stated: Array, n_pools: int, names: tuple[str, ...]) -> None:
    """Raise unless held coordinates are those of one pool, (D,), or of each, (G, D)."""
    if stated.ndim > 1 and len(stated) not in (1, n_pools):
        raise FitError(
            f"{len(stated)} values are given for {' or '.join(names)}",
            where={"family": family.name, "pools": n_pools},
            expected="one value, or one for each pool",
            remedy="give one value for each hyperparameter",
        )


def _number(family: Family, name: str, value: Any) -> Array:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise FitError(
            f"{name} cannot be held at {value!r}",
            where={"family": family.name},
            expected="a number",
            remedy="pass numbers in `fixed` and `start`",
        ) from None


def is_restricted(family: Family, held: Array, kind: str) -> bool:
    """Whether the likelihood is REML's: a location that is held is not integrated out.

    Raises
    ------
    FitError
        If some coefficients of the location are held and others are not.
    """
    name = family.coordinates[0].hyperparameter
    location = [axis.hyperparameter == name for axis in family.coordinates]
    free = np.isnan(held[:, location])
    if kind == "reml" and free.any() and not free.all():
        raise FitError(
            f"under reml some elements of {name} are held and others are not",
            where={"family": family.name},
            expected=f"all of {name}, or none of it",
            remedy="use estimator='ml'",
        )
    return kind == "reml" and bool(free.all())


def cases(family: Family, sketch: Any, estimator: str) -> tuple[Degeneracy, ...]:
    """Shapes of the data that leave this estimator something without an estimate."""
    kind, variant = read_estimator(family, estimator)
    found = family.degeneracies(sketch)
    if kind == "map":
        # A hyperprior may well determine what the data do not.
        return tuple(c for c in found if c.status == "no_data" or not c.prior_helps)
    if kind in ADJUSTABLE and variant:
        power = adjusted.POWERS[variant]
        few = adjusted.too_few_stores(family, sketch, power, restricted=kind == "reml")
        return (*found, few)
    return found


def diagnose(
    family: Family, sketch: Any, held: Array, *, estimator: str
) -> tuple[Array, NDArray[np.str_], NDArray[np.bool_]]:
    """Find the pools whose data leave something without an interior estimate.

    Returns
    -------
    Pinned coordinates (G, D), status words (G,) and whether the estimate is identified (G,).
    """
    kind, variant = read_estimator(family, estimator)
    pinned = np.full(held.shape, np.nan)
    status = np.full(len(held), "", dtype="U32")
    identified = np.ones(len(held), bool)
    for case in cases(family, sketch, estimator):
        concerned = _concerned(family, case, held) & (status == "")
        status[concerned] = case.status
        identified[concerned] = case.identified
        pinned[concerned] = np.where(np.isnan(held), case.limit, np.nan)[concerned]
    if kind == "reml":
        # With the location integrated out, as many stores as it has coefficients, or one, say
        # nothing about the spread.
        spare = ~np.isin(status, ("one_store", "saturated"))
        identified &= spare | ~np.isnan(held[:, family.spreads]).any(axis=1)
    if kind in ADJUSTABLE and variant:
        # Where the data alone put the spread on its bound, the penalty alone would move it off.
        identified &= np.isnan(pinned[:, family.spreads]).all(axis=1)
    return pinned, status, identified


def _concerned(family: Family, case: Degeneracy, held: Array) -> NDArray[np.bool_]:
    """Pools of this case in which nothing that was held resolves it."""
    limits_free = np.any(np.isnan(held) & ~np.isnan(case.limit), axis=1)
    resolving = [axis.hyperparameter in case.unless for axis in family.coordinates]
    resolved = np.any(~np.isnan(held[:, resolving]), axis=1)
    return np.asarray(case.pools & limits_free & ~resolved)
