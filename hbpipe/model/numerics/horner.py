"""Polynomials by Horner's rule, in place: numpy's own makes an array for every coefficient."""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array


def horner(x: Array, coefficients: Array) -> Array:
    """Evaluate Σ cᵢ xⁱ, the constant first, at every x (R,)."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value *= x
        value += coefficient
    return value
