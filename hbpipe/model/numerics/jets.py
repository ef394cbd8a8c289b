"""Second-order forward differentiation of small formulas, for many pools at once.

A :class:`Jet` is the start of a Taylor series: the value of a scalar formula, its gradient and
its Hessian with respect to ``D`` variables, each with a leading axis of ``G`` pools. Hyperpriors
and changes of variable are formulas of a few operations; writing them once as jets keeps value,
gradient and Hessian consistent by construction (Griewank and Walther 2008, chapter 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes

Scalar: TypeAlias = "float | Array"


@dataclass(frozen=True)
class Jet:
    """Value (G,), gradient (G, D) and Hessian (G, D, D) of one formula."""

    value: Array
    gradient: Array
    hessian: Array

    #: numpy must not take ``array * jet`` apart element by element.
    __array_ufunc__ = None

    def __add__(self, other: Jet | Scalar) -> Jet:
        if isinstance(other, Jet):
            return Jet(
                self.value + other.value,
                self.gradient + other.gradient,
                self.hessian + other.hessian,
            )
        return Jet(self.value + other, self.gradient, self.hessian)

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(-self.value, -self.gradient, -self.hessian)

    def __sub__(self, other: Jet | Scalar) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Scalar) -> Jet:
        return -self + other

    def __mul__(self, other: Jet | Scalar) -> Jet:
        if isinstance(other, Jet):
            cross = self.gradient[:, :, None] * other.gradient[:, None, :]
            return Jet(
                self.value * other.value,
                self.value[:, None] * other.gradient + other.value[:, None] * self.gradient,
                self.value[:, None, None] * other.hessian
                + other.value[:, None, None] * self.hessian
                + cross
                + np.swapaxes(cross, 1, 2),
            )
        factor = np.broadcast_to(np.asarray(other, dtype=float), self.value.shape)
        return Jet(
            self.value * factor,
            self.gradient * factor[:, None],
            self.hessian * factor[:, None, None],
        )

    __rmul__ = __mul__

    def take(self, rows: Codes | NDArray[np.bool_]) -> Jet:
        """Return some of the pools, any of them several times."""
        return Jet(self.value[rows], self.gradient[rows], self.hessian[rows])

    def put(self, rows: Codes, part: Jet) -> None:
        """Put the jets of some of the pools in place of those that are there."""
        self.value[rows], self.gradient[rows] = part.value, part.gradient
        self.hessian[rows] = part.hessian

    def embed(self, dimension: int) -> Jet:
        """Return the same formula as one of ``dimension`` variables, the first of them its own."""
        more = dimension - self.gradient.shape[1]
        return Jet(
            self.value,
            np.pad(self.gradient, ((0, 0), (0, more))),
            np.pad(self.hessian, ((0, 0), (0, more), (0, more))),
        )

    def apply(self, value: Array, first: Array, second: Array) -> Jet:
        """Compose with a function of one variable, given its value and two derivatives here."""
        outer = self.gradient[:, :, None] * self.gradient[:, None, :]
        return Jet(
            value,
            first[:, None] * self.gradient,
            first[:, None, None] * self.hessian + second[:, None, None] * outer,
        )


def variables(point: Array) -> list[Jet]:
    """Return the ``D`` independent variables at ``point`` (G, D) as jets."""
    pools, dimension = point.shape
    none = np.zeros((pools, dimension, dimension))
    rows = np.broadcast_to(np.eye(dimension)[:, None, :], (dimension, pools, dimension))
    return [Jet(point[:, d].copy(), rows[d].copy(), none) for d in range(dimension)]


def constants(values: Array, dimension: int) -> Jet:
    """Return numbers (G,) as a jet that depends on none of its ``dimension`` variables."""
    pools = len(values)
    return Jet(values, np.zeros((pools, dimension)), np.zeros((pools, dimension, dimension)))


def total(jet: Jet, codes: Codes, n_groups: int) -> Jet:
    """Sum a jet (R,) by group, in row order: ``codes`` (R,) to ``n_groups``."""
    dimension = jet.gradient.shape[1]
    gradient = np.zeros((n_groups, dimension))
    hessian = np.zeros((n_groups, dimension, dimension))
    for i in range(dimension):
        gradient[:, i] = np.bincount(codes, jet.gradient[:, i], n_groups)
        for j in range(i, dimension):
            mixed = np.bincount(codes, jet.hessian[:, i, j], n_groups)
            hessian[:, i, j] = hessian[:, j, i] = mixed
    return Jet(np.bincount(codes, jet.value, n_groups).astype(np.float64), gradient, hessian)


def reciprocal(jet: Jet) -> Jet:
    """One over a jet that is not zero."""
    inverse = 1.0 / jet.value
    return jet.apply(inverse, -(inverse**2), 2.0 * inverse**3)


def constant(value: Array) -> Jet:
    """Return numbers (G,) as jets of no variable, to evaluate a formula without derivatives."""
    return Jet(value, np.zeros((len(value), 0)), np.zeros((len(value), 0, 0)))


def exp(jet: Jet) -> Jet:
    """Exponential of a jet."""
    value = np.exp(jet.value)
    return jet.apply(value, value, value)


def log(jet: Jet) -> Jet:
    """Natural logarithm of a positive jet."""
    inverse = 1.0 / jet.value
    return jet.apply(np.log(jet.value), inverse, -(inverse**2))


def log1p(jet: Jet) -> Jet:
    """Logarithm of one plus a jet."""
    inverse = 1.0 / (1.0 + jet.value)
    return jet.apply(np.log1p(jet.value), inverse, -(inverse**2))


def log1p_exp(jet: Jet) -> Jet:
    """Softplus, log(1 + exp(u)), without overflow."""
    probability = 0.5 * (1.0 + np.tanh(0.5 * jet.value))
    slope = 1.0 / (4.0 * np.cosh(0.5 * np.clip(jet.value, -700.0, 700.0)) ** 2)
    return jet.apply(np.logaddexp(0.0, jet.value), probability, slope)


def chain(value: Array, gradient: Array, hessian: Array, inner: list[Jet]) -> Jet:
    """Rewrite a function of ``D`` coordinates as a function of the variables of ``inner``.

    Parameters
    ----------
    value, gradient, hessian
        The function, (G,), (G, D), (G, D, D), in the coordinates.
    inner
        The ``D`` coordinates as jets of ``V`` variables.
    """
    first = np.stack([jet.gradient for jet in inner], axis=1)
    second = np.stack([jet.hessian for jet in inner], axis=1)
    return Jet(
        value,
        np.einsum("gd,gdv->gv", gradient, first),
        np.einsum("gdv,gde,gew->gvw", first, hessian, first)
        + np.einsum("gd,gdvw->gvw", gradient, second),
    )
