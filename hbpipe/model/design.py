"""Attributes of stores as columns of a design matrix, the same for every shard and new store.

    coding = learn_coding(attributes, ["format", {"column": "size", "transform": "log"}])
    coded = coding.apply(attributes)
    fit = hbpipe.fit("beta_binomial", statistics, covariates=coded.matrix)

A coding is learnt once, from the stores of all pools, and pickles. It has the intercept, numeric
columns as they are, as logarithms or as splines, and categories in treatment coding: one column of
zeros and ones for each level but the most frequent one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.names import unknown
from hbpipe.model.splines import NaturalSpline, natural_spline

#: Name -> one value for each store, (J,).
Attributes: TypeAlias = Mapping[str, Any]
#: What is wrong -> the rows concerned.
Reasons: TypeAlias = dict[str, NDArray[np.int64]]

INTERCEPT = "intercept"
_TRANSFORMS = ("log",)
_OPTIONS = ("column", "transform", "spline", "categories")


@dataclass(frozen=True)
class Coded:
    """Covariates of ``J`` stores.

    Parameters
    ----------
    matrix
        (J, P), the intercept first; NaN in the rows that cannot be coded, which a fit refuses.
    names
        Of the columns.
    usable
        (J,) False where an attribute is missing, impossible or a level that was not learnt.
    reasons
        What is wrong, in words, with the rows concerned.
    """

    matrix: Array
    names: tuple[str, ...]
    usable: NDArray[np.bool_]
    reasons: Reasons


@dataclass(frozen=True)
class Numbers:
    """A numeric attribute: itself, its logarithm, or a spline of either."""

    name: str
    transform: str | None = None
    spline: NaturalSpline | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its columns."""
        own = self.name if self.transform is None else f"{self.transform}({self.name})"
        if self.spline is None:
            return (own,)
        return tuple(f"{own}[{k}]" for k in range(self.spline.df))

    def apply(self, values: Any) -> tuple[Array, Reasons]:
        """Columns (J, K) and what is wrong."""
        numbers, reasons = self.transformed(values)
        columns = numbers[:, None] if self.spline is None else self.spline(numbers)
        return columns, reasons

    def transformed(self, values: Any) -> tuple[Array, Reasons]:
        """Values (J,) after the transform, NaN where there is none."""
        numbers = _numbers(self.name, values)
        missing = ~np.isfinite(numbers)
        reasons = {f"{self.name} is missing": missing}
        if self.transform == "log":
            reasons[f"{self.name} is not positive"] = ~missing & (numbers <= 0)
            numbers = np.log(np.where(numbers > 0, numbers, np.nan))
        return np.where(missing, np.nan, numbers), _rows(reasons)


@dataclass(frozen=True)
class Category:
    """A categorical attribute: ``levels`` have a column each, ``base`` has none."""

    name: str
    base: str
    levels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(f"{self.name}={level}" for level in self.levels)

    def apply(self, values: Any) -> tuple[Array, Reasons]:
        """Columns (J, K) and what is wrong."""
        labels = _labels(values)
        columns = np.stack([labels == level for level in (self.base, *self.levels)], axis=1)
        missing, strange = labels == "", (labels != "") & ~columns.any(axis=1)
        reasons = {f"{self.name} is missing": missing}
        for level in np.unique(labels[strange]).tolist():
            reasons[f"{self.name} has the unknown level {level!r}"] = labels == level
        coded = np.where((missing | strange)[:, None], np.nan, columns[:, 1:].astype(np.float64))
        return coded, _rows(reasons)


@dataclass(frozen=True)
class Coding:
    """How attributes become columns."""

    columns: tuple[Numbers | Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the ``P`` columns."""
        return (INTERCEPT, *(name for column in self.columns for name in column.names))

    def apply(self, attributes: Attributes) -> Coded:
        """Code the attributes of ``J`` stores.

        Raises
        ------
        FitError
            If an attribute is missing altogether, or a numeric one has text.
        """
        stores = _stores(attributes)
        parts, reasons = [np.ones((stores, 1))], Reasons()
        for column in self.columns:
            part, found = column.apply(_attribute(attributes, column.name))
            parts.append(part)
            reasons |= found
        matrix = np.concatenate(parts, axis=1)
        usable = np.asarray(np.isfinite(matrix).all(axis=1))
        for rows in reasons.values():
            usable[rows] = False
        matrix[~usable] = np.nan
        return Coded(matrix, self.names, usable, reasons)


def learn_coding(attributes: Attributes, columns: Sequence[str | Mapping[str, Any]]) -> Coding:
    """Learn levels and knots from the stores.

    Parameters
    ----------
    attributes
        Name -> (J,) numbers or text; None, NaN and "" are missing.
    columns
        Names of attributes, or ``{"column": name}`` with ``transform: "log"``, ``spline: df`` or
        ``categories: True`` for numbers that are labels.

    Raises
    ------
    FitError
        If a name or an option is unknown, or a category has no level.
    """
    learnt: list[Numbers | Category] = []
    for column in columns:
        options = {"column": column} if isinstance(column, str) else dict(column)
        for option in options:
            if option not in _OPTIONS:
                raise unknown("option of a covariate", option, _OPTIONS)
        name = str(options["column"])
        values = np.asarray(_attribute(attributes, name))
        if options.get("categories", values.dtype.kind not in "biuf"):
            learnt.append(_learn_category(name, values))
        else:
            learnt.append(_learn_numbers(name, values, options))
    return Coding(tuple(learnt))


def _learn_category(name: str, values: Any) -> Category:
    labels = _labels(values)
    levels, counts = np.unique(labels[labels != ""], return_counts=True)
    if not len(levels):
        raise FitError(
            f"{name} is missing for every store",
            expected="at least one level",
            remedy="leave this covariate out, or fill it in",
        )
    base = int(np.argmax(counts))
    others = tuple(np.delete(levels, base).tolist())
    return Category(name, str(levels[base]), others)


def _learn_numbers(name: str, values: Any, options: Mapping[str, Any]) -> Numbers:
    transform = options.get("transform")
    if transform is not None and transform not in _TRANSFORMS:
        raise unknown("transform", transform, _TRANSFORMS)
    plain = Numbers(name, transform)
    if options.get("spline") is None:
        return plain
    transformed, _ = plain.transformed(values)
    return Numbers(name, transform, natural_spline(transformed, int(options["spline"])))


def _attribute(attributes: Attributes, name: str) -> Any:
    if name not in attributes:
        raise unknown("attribute", name, attributes)
    return attributes[name]


def _stores(attributes: Attributes) -> int:
    return len(next(iter(attributes.values()))) if attributes else 0


def _numbers(name: str, values: Any) -> Array:
    """Values as floats, NaN where missing."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.array([np.nan if value is None else value for value in array])
    if array.dtype.kind not in "biuf":
        raise FitError(
            f"the attribute {name} is text",
            expected="numbers",
            remedy="leave its transform or spline out to code it as categories",
        )
    return array.astype(np.float64)


def _labels(values: Any) -> NDArray[np.str_]:
    """Values as text, "" where missing."""
    # Not a number is the only value that differs from itself.
    found = np.asarray(values).tolist()
    labels = ["" if value is None or value != value else str(value) for value in found]
    return np.array(labels, dtype=np.str_) if labels else np.empty(0, "<U1")


def _rows(masks: Mapping[str, NDArray[np.bool_]]) -> Reasons:
    """Rows of each reason that concerns any."""
    return {reason: np.flatnonzero(mask) for reason, mask in masks.items() if mask.any()}
