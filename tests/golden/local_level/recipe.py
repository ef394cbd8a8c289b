"""Draw data.csv and compute truth.json; needs statsmodels 0.15.0, run by its own Python."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy.optimize import minimize
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

STORES, DAYS = 25, 12
FOLDER = Path(__file__).parent


def draw():
    """Values by store and day, with gaps."""
    rng = np.random.default_rng(20260101)
    mu, tau, ratio, sigma = 3.0, 0.5, 0.08, 0.9
    first = mu + tau * rng.normal(size=(STORES, 1))
    steps = np.column_stack([np.zeros(STORES), rng.normal(size=(STORES, DAYS - 1))])
    path = first + np.cumsum(np.sqrt(ratio) * sigma * steps, axis=1)
    n = rng.poisson(3.0, (STORES, DAYS))
    n[:, 5] = n[3, :8] = n[7, 6:] = 0
    return {
        (j, d): np.round(rng.normal(path[j, d], sigma, n[j, d]), 4)
        for j in range(STORES)
        for d in range(DAYS)
    }


VALUES = draw()
N = np.array([[len(VALUES[j, d]) for d in range(DAYS)] for j in range(STORES)])
MEAN = np.array(
    [[VALUES[j, d].mean() if N[j, d] else np.nan for d in range(DAYS)] for j in range(STORES)]
)
M2 = sum(float(np.sum((x - x.mean()) ** 2)) for x in VALUES.values() if len(x))


def filtered(j, mu, tau, signal_ratio, sigma):
    """The daily means of one store through statsmodels' Kalman filter."""
    model = KalmanFilter(k_endog=1, k_states=1, k_posdef=1)
    model.bind(MEAN[j][None].copy())
    model["design"] = model["transition"] = model["selection"] = np.ones((1, 1))
    model["state_cov"] = np.array([[signal_ratio * sigma**2]])
    model["obs_cov"] = (sigma**2 / np.maximum(N[j], 1))[None, None, :]
    model.initialize_known(np.array([mu]), np.array([[tau**2]]))
    return model.filter()


def log_likelihood(mu, tau, signal_ratio, sigma):
    """That of the means, and of the values of a day about their mean."""
    means = sum(float(filtered(j, mu, tau, signal_ratio, sigma).llf) for j in range(STORES))
    n = N[N > 0]
    within = np.sum(n - 1) * np.log(2 * np.pi * sigma**2) + np.sum(np.log(n)) + M2 / sigma**2
    return means - 0.5 * float(within)


def maximum(drifting):
    """The maximum by Nelder and Mead's simplex, begun anew where it ended."""

    def named(x):
        ratio = float(np.exp(x[2])) if drifting else 0.0
        mu, tau, sigma = float(x[0]), float(np.exp(x[1])), float(np.exp(x[-1]))
        return {"mu": mu, "tau": tau, "signal_ratio": ratio, "sigma": sigma}

    x = [2.5, -1.0, -2.0, 0.2] if drifting else [2.5, -1.0, 0.2]
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 8000}
    for _ in range(4):
        x = minimize(
            lambda x: -log_likelihood(**named(x)), x, method="Nelder-Mead", options=options
        ).x
    return {**named(x), "log_likelihood": log_likelihood(**named(x))}


AT = {"mu": 2.8, "tau": 0.4, "signal_ratio": 0.1, "sigma": 1.0}
stores = [filtered(j, **AT) for j in range(STORES)]
truth = {
    "model": "x ~ N(theta_jd, sigma^2); theta_jd = theta_j,d-1 + N(0, signal_ratio sigma^2); "
    "theta_j0 ~ N(mu, tau^2)",
    "programs": {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "statsmodels": statsmodels.__version__,
    },
    "how": "statsmodels KalmanFilter of each store's daily means with observation variance "
    "sigma^2/n and known initialisation N(mu, tau^2), plus the density of the values of a day "
    "about their mean; maxima by Nelder-Mead on that likelihood",
    "tolerances": {"likelihood": 1e-9, "state": 1e-9, "maximum": 1e-5},
    "at": AT,
    "log_likelihood": log_likelihood(**AT),
    "state_mean": [float(store.filtered_state[0, -1]) for store in stores],
    "state_variance": [float(store.filtered_state_cov[0, 0, -1]) for store in stores],
    "next_day_variance": [float(store.predicted_state_cov[0, 0, -1]) for store in stores],
    "forecasts_of_last_day": [float(store.predicted_state[0, DAYS - 1]) for store in stores],
    "forecast_variances_of_last_day": [
        float(store.predicted_state_cov[0, 0, DAYS - 1]) for store in stores
    ],
    "maximum": maximum(True),
    "static_maximum": maximum(False),
}
with (FOLDER / "data.csv").open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["store", "day", "value"])
    writer.writerows((j, d, value) for (j, d), values in VALUES.items() for value in values)
(FOLDER / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
