"""A fit that walked in standard units, told in those of the user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.model.fits import PoolFits


def outside(fits: PoolFits, sketch: Any) -> PoolFits:
    """Restate a fit for the sketch in the user's units that it was made for.

    Values, distances to the maximum and eigenvalues have no units. Coefficients that the
    likelihood drives to infinity are reported as a bound that was reached.
    """
    units, width = fits.sketch.units, fits.covariates
    coordinates = units.outside(fits.coordinates)
    held = fits.held.copy()
    known = np.isfinite(held[:, :width])
    held[:, :width] = np.where(known, coordinates[:, :width], np.nan)
    far = np.isfinite(units.runaway).any(axis=1) & ~known.all(axis=1)
    far &= np.array([status == "separated" for status in fits.status], bool)
    names = zip(fits.at_bound, far.tolist(), strict=True)
    return replace(
        fits,
        coordinates=coordinates,
        hyperparameters=fits.model.from_coordinates(coordinates),
        covariance=units.covariance_outside(fits.covariance),
        held=held,
        sketch=sketch,
        boundary=fits.boundary | far,
        at_bound=tuple((*(("coefficients",) if on else ()), *found) for found, on in names),
    )
