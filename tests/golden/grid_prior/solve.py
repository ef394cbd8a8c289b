"""Nonparametric priors of three data sets by a general convex solver; prints truth.json.

An own program: numpy, scipy's densities and cvxpy with Clarabel, nothing of hbpipe. The components
are computed anew from their description in hbpipe/model/README.md, the weights maximise
Σ log(Lw) over the simplex.

    python -m venv /tmp/solve && /tmp/solve/bin/pip install cvxpy==1.9.3 clarabel==0.11.1
    cd tests/golden && /tmp/solve/bin/python grid_prior/solve.py > grid_prior/truth.json
"""

import csv
import json
from importlib.metadata import version
from pathlib import Path

import cvxpy
import numpy as np
from scipy import stats


def column(case, name):
    with Path(case, "data.csv").open(newline="") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def components(place, noise, largest):
    """Locations and spreads on the line of the link."""
    count, ordered = len(place), np.sort(place)
    half = count // 2
    short = min(ordered[i + half] - ordered[i] for i in range(count - half))
    robust = short / 1.349 * (1 + 5 / (count - 1))
    lower_median = np.sort(noise)[(count + 1) // 2 - 1]
    spread = 1.06 * max(min(np.std(place), robust), lower_median) * count**-0.2
    spread, centre = min(spread, largest), ordered[(count + 1) // 2 - 1]
    found = []
    while True:
        cells = sorted({round((x - centre) / (1.5 * spread)) for x in place})
        found += [(centre + 1.5 * spread * cell, spread) for cell in cells]
        if spread >= min(0.5 * np.ptp(place), largest):
            return np.array(found).T
        spread = min(3 * spread, largest)


def rats():
    y, n = column("rat_tumours", "y"), column("rat_tumours", "n")
    place = np.log((y + 0.5) / (n - y + 0.5))
    at, spread = components(place, np.sqrt(1 / (y + 0.5) + 1 / (n - y + 0.5)), 3.0)
    p = 1 / (1 + np.exp(-at))
    a, b = 1 / (1 - p) / spread**2, 1 / p / spread**2
    log_likelihood = stats.betabinom.logpmf(y[:, None], n[:, None], a, b)
    return (a, b), log_likelihood, (a + y[:, None]) / (a + b + n[:, None])


def pumps():
    y, e = column("pumps", "x"), column("pumps", "t")
    at, spread = components(np.log((y + 0.5) / e), 1 / np.sqrt(y + 0.5), 3.0)
    shape = 1 / spread**2
    rate = shape / np.exp(at)
    log_likelihood = stats.nbinom.logpmf(y[:, None], shape, rate / (rate + e[:, None]))
    return (shape, rate), log_likelihood, (shape + y[:, None]) / (rate + e[:, None])


def milk():
    x, sd = column("milk", "yi"), column("milk", "sd")
    mu, tau = components(x, sd, np.inf)
    total = np.sqrt(sd[:, None] ** 2 + tau**2)
    log_likelihood = stats.norm.logpdf(x[:, None], mu, total)
    share = tau**2 / total**2
    return (mu, tau), log_likelihood, mu + share * (x[:, None] - mu)


def solve(law, log_likelihood, means):
    top = log_likelihood.max(axis=1, keepdims=True)
    likelihood = np.exp(log_likelihood - top)
    weight = cvxpy.Variable(likelihood.shape[1], nonneg=True)
    value = cvxpy.sum(cvxpy.log(likelihood @ weight))
    problem = cvxpy.Problem(cvxpy.Maximize(value), [cvxpy.sum(weight) == 1])
    tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    problem.solve(solver=cvxpy.CLARABEL, **tight)
    found = np.maximum(weight.value, 0) / np.maximum(weight.value, 0).sum()
    mixed = likelihood @ found
    slope = np.mean(likelihood / mixed[:, None], axis=0)
    posterior = found * likelihood / mixed[:, None]
    return {
        "components": [list(values) for values in law],
        "log_likelihood": float(np.sum(np.log(mixed) + top[:, 0])),
        "gap": float(slope.max() - 1),
        "posterior_means": list(np.sum(posterior * means, axis=1)),
    }


names = ("numpy", "scipy", "cvxpy", "clarabel")
answers = {case.__name__: solve(*case()) for case in (rats, pumps, milk)}
answers["made_with"] = {name: version(name) for name in names}
print(json.dumps(answers, indent=1))
