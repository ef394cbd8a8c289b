"""The coding of attributes into covariates: categories, numbers, and a curve in log n.

A coding is decided once, from all stores, and then applied to any of them: it is small, it says
what every column means, and what it cannot code it says is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.covariates.splines import natural_spline, quantile_knots
from hbpipe.model.family import Array

INTERCEPT = "intercept"
#: A category for every store is no category.
MOST_LEVELS = 100
#: A column whose part that is no combination of others is a smaller share of it than this.
_DEPENDENT = 1e-8


@dataclass(frozen=True)
class Categories:
    """Treatment coding: a column of 0 and 1 for every level but the ``reference``."""

    name: str
    reference: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> Categories:
        """Find the levels of ``values`` (J,), text or None; the most frequent is the reference.

        Raises
        ------
        FitError
            If there are too few or too many.
        """
        levels, counts = np.unique([v for v in values if v is not None], return_counts=True)
        if not 2 <= len(levels) <= MOST_LEVELS:
            raise FitError(
                f"the covariate {name!r} has {len(levels)} levels"
                + (f", {levels[0]!s} alone" if len(levels) == 1 else ""),
                expected=f"2 to {MOST_LEVELS}",
                remedy="leave it out" + (", or merge its levels" if len(levels) > 2 else ""),
            )
        first = int(np.argmax(counts))
        others = tuple(str(level) for k, level in enumerate(levels) if k != first)
        return cls(name, str(levels[first]), others)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(f"{self.name}={level}" for level in self.others)

    def columns(self, values: NDArray[Any]) -> Array:
        """Code values (J,) as (J, L); NaN for None and for levels that are not known."""
        place = {level: k for k, level in enumerate((*self.others, self.reference))}
        codes = np.array([place.get(value, -1) for value in values.tolist()], np.int64)
        rows = np.vstack([np.eye(len(self.others) + 1)[:, :-1], np.full(len(self.others), np.nan)])
        return np.asarray(rows[codes])

    def told(self) -> dict[str, Any]:
        """Describe the coding."""
        return {"reference": self.reference, "levels": list(self.others)}


@dataclass(frozen=True)
class Number:
    """One column: a number or its logarithm, less a round number near the mean."""

    name: str
    transform: str | None
    centre: float

    @classmethod
    def of(cls, name: str, values: Array, transform: str | None = None) -> Number:
        """Centre ``values`` (J,), NaN where unknown.

        The centre is the mean, to a tenth of the sd's power of ten, so that one more store leaves
        the coding and its coefficients as they are.

        Raises
        ------
        FitError
            If all values are the same, or none is known.
        """
        known = _transformed(values, transform)
        known = known[np.isfinite(known)]
        sd = float(np.std(known)) if len(known) else 0.0
        if not sd > 1e-12 * float(np.max(np.abs(known), initial=0.0)):
            raise FitError(
                f"the covariate {name!r} is constant: {known[0]:g}"
                if len(known)
                else f"the covariate {name!r} has no value that can be used",
                expected="values that differ between stores",
                remedy="leave it out; the intercept is always there",
            )
        step = 10.0 ** np.floor(np.log10(sd)) / 10.0
        return cls(name, transform, float(np.round(np.mean(known) / step) * step))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (f"{self.transform}_{self.name}" if self.transform else self.name,)

    def columns(self, values: Array) -> Array:
        """Code values (J,) as (J, 1); NaN where unknown, or without a logarithm."""
        found = _transformed(values, self.transform) - self.centre
        return np.where(np.isfinite(found), found, np.nan)[:, None]

    def told(self) -> dict[str, Any]:
        """Describe the coding."""
        return {"centre": self.centre}


@dataclass(frozen=True)
class Curve:
    """A natural spline in log n, with ``knots`` in log n.

    Sizes below the ``lowest`` are taken as that: a store without data has no log n. Where sizes
    hardly differ it has fewer columns than were ``asked`` for, one for a straight line or none.
    """

    name: str
    knots: tuple[float, ...]
    lowest: float
    asked: int

    @classmethod
    def of(cls, name: str, sizes: Array, counts: NDArray[np.int64], columns: int) -> Curve:
        """Place knots at quantiles of the logarithms of ``sizes`` (D,) with ``counts`` (D,)."""
        seen = sizes > 0
        log_n = np.log(sizes[seen])
        knots = quantile_knots(log_n, counts[seen], columns)
        lowest = float(log_n.min()) if len(log_n) else 0.0
        return cls(name, tuple(knots.tolist()), lowest, columns)

    @property
    def missing(self) -> int:
        """How many columns fewer than asked for there are."""
        return self.asked - len(self.labels)

    @property
    def story(self) -> str:
        """Say what the curve is, and why it is simpler than was asked for."""
        columns = len(self.labels)
        shape = ("left out", "a straight line")[columns] if columns < 2 else "a curve"
        told = f"the spline in log {self.name} is {shape}, with {columns} column(s)"
        if not self.missing:
            return f"{told}, as asked for"
        if not columns:
            return f"{told} in place of {self.asked}: all stores with data are of one size"
        return f"{told} in place of {self.asked}: too many stores are of one size for more knots"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(f"spline_log_{self.name}_{k}" for k in range(1, len(self.knots)))

    def columns(self, sizes: Array) -> Array:
        """Code sizes (J,) as (J, max(K − 1, 0))."""
        lowest = np.exp(self.lowest)
        log_n = np.log(np.maximum(np.asarray(sizes, np.float64), lowest))
        return natural_spline(log_n, np.array(self.knots))

    def told(self) -> dict[str, Any]:
        """Describe the coding."""
        return {"knots": list(self.knots), "lowest": self.lowest, "asked": self.asked}


def _transformed(values: Array, transform: str | None) -> Array:
    """Numbers, or their logarithms; NaN where there is none."""
    x = np.asarray(values, np.float64)
    if transform is None:
        return x
    least = 0.0 if transform == "log" else -1.0
    inside = x > least
    safe = np.where(inside, x, 1.0)
    return np.where(inside, np.log(safe) if transform == "log" else np.log1p(safe), np.nan)


Term: TypeAlias = Categories | Number | Curve


@dataclass(frozen=True)
class Design:
    """What turns attributes of stores into covariates; the intercept comes first."""

    terms: tuple[Term, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the P columns."""
        return (INTERCEPT, *(label for term in self.terms for label in term.labels))

    def matrix(self, values: Mapping[str, NDArray[Any]]) -> Array:
        """Covariates (J, P) of stores whose values are name -> (J,); NaN rows where unknown."""
        parts = [term.columns(values[term.name]) for term in self.terms]
        stores = len(next(iter(values.values())))
        x = np.concatenate([np.ones((stores, 1)), *parts], axis=1)
        x[np.isnan(x).any(axis=1)] = np.nan
        return x

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Those of the terms that are splines."""
        return tuple(term for term in self.terms if isinstance(term, Curve))

    def told(self) -> dict[str, Any]:
        """Describe the coding: name -> what its columns mean."""
        return {term.name: term.told() for term in self.terms}


def is_known(covariates: Array) -> NDArray[np.bool_]:
    """Whether all covariates of a store are known, (J,), from (J, P)."""
    return np.asarray(np.isfinite(covariates).all(axis=1))


def check_independent(covariates: Array, labels: Sequence[str]) -> None:
    """Raise FitError for the first column of (J, P) that is a combination of those before it."""
    size = np.sqrt(np.sum(covariates**2, axis=0))
    scaled = covariates / np.where(size > 0, size, 1.0)
    for p in range(1, scaled.shape[1]):
        found = np.linalg.lstsq(scaled[:, :p], scaled[:, p], rcond=None)[0]
        rest = scaled[:, p] - scaled[:, :p] @ found
        if np.sqrt(np.sum(rest**2)) < _DEPENDENT:
            share = np.abs(found) > 1e-6
            named = [label for label, used in zip(labels[:p], share, strict=True) if used]
            constant = not named or named == [labels[0]]
            raise FitError(
                f"the covariate {labels[p]!r} is "
                + ("constant" if constant else f"a combination of {', '.join(named)}"),
                where={"stores": len(covariates)},
                expected="columns of which none follows from the others",
                remedy=f"leave out {labels[p].partition('=')[0]!r}"
                + ("" if constant else " or one of the others, or merge levels"),
            )
