"""Stores whose levels drift, drawn from the model itself."""

import numpy as np

from hbpipe.model.families import get_family


def drifting(seed, stores, days, *, ratio, tau=0.4, per_day=5.0, mu=2.0, sigma=1.0):
    """Statistics of days (J, D), some stores with few values, and levels of the last day (J,)."""
    rng, family = np.random.default_rng(seed), get_family("local_level", days)
    size = rng.poisson(per_day * days * rng.gamma(2.0, 0.5, stores))
    at = {"mu": mu, "tau": tau, "signal_ratio": ratio, "sigma": sigma}
    events, codes, theta = family.simulate(rng, at, stores, size)
    return family.summarise(events, codes, stores), theta


def together(statistics):
    """The same stores with all days as one: statistics of the family ``normal``."""
    n = statistics["n"].sum(axis=1)
    mean = np.sum(statistics["n"] * statistics["mean"], axis=1) / np.maximum(n, 1)
    squares = statistics["n"] * np.square(statistics["mean"] - mean[:, None])
    return {"n": n, "mean": mean, "m2": np.sum(statistics["m2"] + squares, axis=1)}
