"""What the prior mean of a metric depends on, as the configuration names it.

A *covariate* is an attribute, a column of the table of stores, or a smooth curve in a store's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hbpipe.data.spelling import nearest
from hbpipe.data.terms import parse_transform

if TYPE_CHECKING:
    from hbpipe.model.family import Family

#: The name of a store's size: trials, exposure, values, or 1/variance.
SIZE = "n"
#: Columns of the curve in log n unless ``df`` says otherwise, and the most there may be.
SPLINE_COLUMNS, MOST_SPLINE_COLUMNS = 3, 10


@dataclass(frozen=True)
class Covariate:
    """One item of ``covariates``.

    ``column`` names an attribute, numbers unless it holds text or truth values or is said to be
    ``categorical``; with ``columns`` > 0 it is the size, and a natural spline in its logarithm has
    that many.
    """

    column: str
    transform: str | None = None
    categorical: bool = False
    columns: int = 0

    @property
    def is_spline(self) -> bool:
        """Whether this is the curve in the size."""
        return self.columns > 0

    @property
    def label(self) -> str:
        """How the numbers of this covariate are called."""
        return f"{self.transform}_{self.column}" if self.transform else self.column


def parse_covariates(raw: Any, family: Family) -> tuple[Covariate, ...]:
    """Parse ``covariates: [format, {column: size_m2, transform: log}, {spline: n, df: 4}]``.

    Raises
    ------
    ValueError
        For an item that is none, one that is there twice, or a family that takes none.
    """
    if not isinstance(raw, list | tuple) or not raw:
        raise ValueError(
            "covariates is a list of columns of the table of stores, such as "
            f"[format, {{column: size_m2, transform: log}}, {{spline: n, df: 4}}], found {raw!r}"
        )
    if family.regression is None:
        raise ValueError(f"covariates: the family {family.name} takes none")
    found = tuple(_covariate(item) for item in raw)
    names = [one.column for one in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise ValueError(f"covariates: {name!r} is there {names.count(name)} times")
    return found


def _covariate(raw: Any) -> Covariate:
    if isinstance(raw, str) and raw:
        return _attribute({"column": raw})
    if isinstance(raw, Mapping) and "spline" in raw:
        return _spline(raw)
    if isinstance(raw, Mapping) and isinstance(raw.get("column"), str) and raw["column"]:
        return _attribute(raw)
    raise ValueError(
        f"covariates: an item is a column, {{column: size_m2, transform: log}} or "
        f"{{spline: n, df: 4}}, found {raw!r}; the intercept is always there"
    )


def _attribute(raw: Mapping[str, Any]) -> Covariate:
    _only(raw, ("column", "transform", "categorical"))
    categorical, transform = raw.get("categorical", False), parse_transform(raw.get("transform"))
    if not isinstance(categorical, bool):
        raise ValueError(f"covariates: categorical is true or false, found {categorical!r}")
    if categorical and transform:
        raise ValueError(f"covariates: the categories of {raw['column']!r} have no logarithm")
    if raw["column"] == SIZE:
        raise ValueError(
            "covariates: n is the size of a store; write {spline: n} for a curve in its logarithm, "
            "or give the column of the table of stores another name"
        )
    return Covariate(raw["column"], transform, categorical)


def _spline(raw: Mapping[str, Any]) -> Covariate:
    _only(raw, ("spline", "df"))
    if raw["spline"] != SIZE:
        raise ValueError(f"covariates: spline is about n, the size of a store, found {raw!r}")
    columns = raw.get("df", SPLINE_COLUMNS)
    whole = isinstance(columns, int) and not isinstance(columns, bool)
    if not whole or not 1 <= columns <= MOST_SPLINE_COLUMNS:
        raise ValueError(
            f"covariates: df of a spline is a whole number from 1 to {MOST_SPLINE_COLUMNS}, "
            f"found {columns!r}"
        )
    return Covariate(SIZE, columns=columns)


def _only(raw: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in raw:
        if key not in known:
            raise ValueError(f"covariates: unknown key {key!r}{nearest(str(key), known)}")


def attributes(covariates: Iterable[Covariate]) -> tuple[str, ...]:
    """List the columns of the table of stores that covariates need, each once."""
    return tuple(dict.fromkeys(one.column for one in covariates if not one.is_spline))
