"""The known answers of this folder, by integrals over θ and another optimiser; no hbpipe.

    python compute.py > truth.json

Data are drawn with numpy. At the given hyperparameters a store's marginal likelihood and posterior
moments are integrals over θ of likelihood × mixture of two densities of scipy, by Gauss-Legendre
rules of 400 nodes on each of eight parts or more of the range of θ. Maximum likelihood is by
scipy's L-BFGS-B from sixteen random starts and Nelder-Mead from the best,
of the textbook formulas.
"""

import json
import sys

import numpy as np
import scipy
from scipy import optimize, special, stats

J = 40


def data():
    rng = np.random.default_rng(20260101)
    of = rng.random(J) < 0.15
    size = rng.integers(5, 200, J)
    rate = np.where(of, rng.beta(60, 140, J), rng.beta(20, 380, J))
    speed = np.where(of, rng.gamma(30, 0.1, J), rng.gamma(8, 0.05, J))
    effect = np.where(of, rng.normal(4, 1, J), rng.normal(0, 0.5, J))
    variance = 20.0 / size
    return {
        "beta_binomial": {"successes": rng.binomial(size, rate), "trials": size},
        "gamma_poisson": {"count": rng.poisson(size * speed), "exposure": size.astype(float)},
        "normal_known_variance": {
            "estimate": rng.normal(effect, np.sqrt(variance)),
            "variance": variance,
        },
    }


POINTS = {
    "beta_binomial": {"proportion": [0.9, 0.1], "alpha": [20.0, 30.0], "beta": [380.0, 70.0]},
    "gamma_poisson": {"proportion": [0.8, 0.2], "shape": [8.0, 9.0], "rate": [20.0, 3.0]},
    "normal_known_variance": {"proportion": [0.85, 0.15], "mu": [0.1, 3.5], "tau": [0.4, 1.2]},
}


RANGES = {
    "beta_binomial": [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1],
    "gamma_poisson": [0, 0.1, 0.3, 0.6, 1, 2, 3, 4, 6, 10, 30],
    "normal_known_variance": [-30, -5, -2, -1, 0, 1, 2, 3, 4, 6, 10, 40],
}


def grid(family):
    """Gauss-Legendre nodes on each part of the range of θ, and their weights."""
    x, w = np.polynomial.legendre.leggauss(400)
    ends = np.array(RANGES[family], float)
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def density(family, at, k, theta):
    if family == "beta_binomial":
        return stats.beta.pdf(theta, at["alpha"][k], at["beta"][k])
    if family == "gamma_poisson":
        return stats.gamma.pdf(theta, at["shape"][k], scale=1 / at["rate"][k])
    return stats.norm.pdf(theta, at["mu"][k], at["tau"][k])


def likelihood(family, store, theta):
    if family == "beta_binomial":
        return stats.binom.pmf(store["successes"], store["trials"], theta)
    if family == "gamma_poisson":
        return stats.poisson.pmf(store["count"], store["exposure"] * theta)
    return stats.norm.pdf(store["estimate"], theta, np.sqrt(store["variance"]))


def integrals(family, statistics, at):
    theta, weight = grid(family)
    out = {"log_marginal": [], "mean": [], "sd": [], "responsibility": []}
    for j in range(J):
        store = {name: values[j] for name, values in statistics.items()}
        of = likelihood(family, store, theta) * weight
        parts = [at["proportion"][k] * of * density(family, at, k, theta) for k in (0, 1)]
        both = parts[0] + parts[1]
        total, mean = both.sum(), (both * theta).sum() / both.sum()
        out["log_marginal"].append(float(np.log(total)))
        out["mean"].append(float(mean))
        out["sd"].append(float(np.sqrt((both * (theta - mean) ** 2).sum() / total)))
        out["responsibility"].append(float(parts[1].sum() / total))
    return out


def log_marginals(family, statistics, u):
    """Textbook formulas; u are unbounded parameters of a component."""
    if family == "beta_binomial":
        y, n = statistics["successes"], statistics["trials"]
        a, b = special.expit(u[0]) * np.exp(u[1]), special.expit(-u[0]) * np.exp(u[1])
        return stats.betabinom.logpmf(y, n, a, b)
    if family == "gamma_poisson":
        y, e = statistics["count"], statistics["exposure"]
        shape = np.exp(u[1])
        rate = shape / np.exp(u[0])
        return stats.nbinom.logpmf(y, shape, rate / (rate + e))
    x, v = statistics["estimate"], statistics["variance"]
    return stats.norm.logpdf(x, u[0], np.sqrt(v + np.exp(2 * u[1])))


BOUNDS = {
    "beta_binomial": [(-5, 1), (0, 12)],
    "gamma_poisson": [(-3, 3), (-2, 10)],
    "normal_known_variance": [(-3, 8), (-6, 3)],
}


def maximum(family, statistics):
    def loss(u):
        both = np.stack([log_marginals(family, statistics, u[k : k + 2]) for k in (0, 2)])
        both += np.array([special.log_expit(-u[4]), special.log_expit(u[4])])[:, None]
        return -special.logsumexp(both, axis=0).sum()

    bounds = [*BOUNDS[family], *BOUNDS[family], (-6, 6)]
    low, high = np.array(bounds).T
    starts = np.random.default_rng(1).uniform(low, high, (16, 5))
    found = [optimize.minimize(loss, u, method="L-BFGS-B", bounds=bounds) for u in starts]
    best = min(found, key=lambda one: one.fun)
    polished = optimize.minimize(loss, best.x, method="Nelder-Mead", tol=1e-10)
    return {"log_likelihood": -float(min(best.fun, polished.fun))}


if __name__ == "__main__":
    truth = {
        "programs": {"numpy": np.__version__, "scipy": scipy.__version__},
        "python": sys.version.split()[0],
        "families": {},
    }
    for family, statistics in data().items():
        truth["families"][family] = {
            "statistics": {name: values.tolist() for name, values in statistics.items()},
            "at": POINTS[family],
            "integrals": integrals(family, statistics, POINTS[family]),
            "maximum": maximum(family, statistics),
        }
    json.dump(truth, sys.stdout, indent=1)
