"""The two families that ``hurdle_lognormal`` is made of, and functions of one as functions of both.

They are looked up by name, because families do not import each other.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from hbpipe.model.declarations import Degeneracy
from hbpipe.model.family import Array, Family, Hyperparameters
from hbpipe.model.marginal.hurdle_lognormal import BASKET, CONVERSION, HurdleSketch

#: Hyperparameters of each part; the first two of the conversion determine the others.
OF_CONVERSION, OF_BASKET = ("alpha", "beta", "mean", "concentration"), ("mu", "tau", "sigma")


def conversion() -> Family:
    """Return the family of who buys."""
    from hbpipe.model.families import get_family  # they are being imported when this module is

    return get_family("beta_binomial")


def basket() -> Family:
    """Return the family of log amounts."""
    from hbpipe.model.families import get_family

    return get_family("normal")


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(logit mean, φ, μ, τ², log σ) → the named hyperparameters of both parts."""
    bought = conversion().from_coordinates(coordinates[..., CONVERSION])
    return bought | basket().from_coordinates(coordinates[..., BASKET])


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Return the coordinates of both parts, NaN for what the names leave open."""
    parts = []
    for family, names in ((conversion(), OF_CONVERSION), (basket(), OF_BASKET)):
        given = {name: hyperparameters[name] for name in names if name in hyperparameters}
        parts.append(family.to_coordinates(given))
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    wide = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts]
    return np.concatenate(wide, axis=-1)


def moments(sketch: HurdleSketch, held: Array) -> Array:
    """Kleinman's estimates of the conversion, analysis of variance of the log amounts."""
    bought = conversion().moments["kleinman"](sketch.conversion, held[:, CONVERSION])
    paid = basket().moments["anova"](sketch.basket, held[:, BASKET])
    return np.concatenate([bought, paid], axis=1)


def scale(sketch: HurdleSketch) -> Array:
    """Return the sizes of sensible steps of both parts."""
    parts = conversion().scale(sketch.conversion), basket().scale(sketch.basket)
    return np.concatenate(parts, axis=1)


def degeneracies(sketch: HurdleSketch) -> tuple[Degeneracy, ...]:
    """Return what either part finds in the data, and every pair of findings before both alone."""
    none = Degeneracy("", np.ones(sketch.n_pools, bool), np.empty(0), True, "", "")
    bought = [*conversion().degeneracies(sketch.conversion), none]
    paid = [*basket().degeneracies(sketch.basket), none]
    return tuple(_both(*pair) for pair in product(bought, paid) if pair != (none, none))


def _both(bought: Degeneracy, paid: Degeneracy) -> Degeneracy:
    """Put a finding of each part together; the one without a status is none.

    Holding what resolves one of them leaves the other, which stands alone further down.
    """
    pools = bought.pools & paid.pools
    limits = [_limit(bought, CONVERSION, len(pools)), _limit(paid, BASKET, len(pools))]
    word, found = paid.status, paid.found
    if word == "no_data":
        word, found = "no_purchases", "no store has a purchase, so nothing is known of baskets"
    no_visit = bought.status == "no_data"
    first = bought if no_visit or (bought.status and not paid.status) else None
    said = [bought.found, found] if not no_visit else [bought.found]
    advice = [bought.remedy, paid.remedy] if not no_visit else [bought.remedy]
    return Degeneracy(
        status=word if first is None else first.status,
        pools=pools,
        limit=np.concatenate(limits, axis=1),
        identified=bought.identified and paid.identified,
        found="; ".join(filter(None, said)),
        remedy="; ".join(dict.fromkeys(filter(None, advice))),
        unless=(*bought.unless, *paid.unless),
    )


def _limit(case: Degeneracy, place: slice, pools: int) -> Array:
    width = place.stop - place.start
    return case.limit if case.status else np.full((pools, width), np.nan)


def typical(coordinates: Array) -> Array:
    """Revenue per visit of the stores of a pool without spread, p exp(μ + σ²/2), (G,)."""
    at: dict[str, Any] = from_coordinates(coordinates)
    with np.errstate(over="ignore"):
        return np.asarray(at["mean"] * np.exp(at["mu"] + 0.5 * np.square(at["sigma"])))
