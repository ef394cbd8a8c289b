"""Data sets with known answers, as statistics of stores, with the hyperpriors of full Bayes."""

import csv
import json
import os
from functools import cache
from pathlib import Path

import numpy as np

from hbpipe.model.families import get_family

#: `make test-reference` runs the same comparisons on the folder that the copies came from.
GOLDEN = Path(os.environ.get("REFERENCE") or Path(__file__).parent / "golden")
NORMAL = "normal_known_variance"
REGRESSION = "normal_regression"


@cache
def truth(case):
    return json.loads((GOLDEN / case / "truth.json").read_text())


@cache
def columns(case):
    with (GOLDEN / case / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def eight_schools():
    data = columns("eight_schools")
    return {"estimate": data["y"].astype(float), "variance": data["sigma"].astype(float) ** 2}


def batting():
    """Arcsine-transformed batting averages of variance 1."""
    x = np.array(truth("efron_morris_1975")["x"])
    return {"estimate": x, "variance": np.ones(len(x))}


def batting_averages():
    data = columns("efron_morris_1975")
    return {"successes": data["hits"].astype(int), "trials": data["ab"].astype(int)}


def rats():
    data = columns("rat_tumours")
    return {"successes": data["y"].astype(int), "trials": data["n"].astype(int)}


def pumps():
    data = columns("pumps")
    return {"count": data["x"].astype(int), "exposure": data["t"].astype(float)}


def dyestuff():
    names, codes = np.unique(columns("dyestuff")["batch"], return_inverse=True)
    events = {"value": columns("dyestuff")["yield"].astype(float)}
    return get_family("normal").summarise(events, codes, len(names))


#: Case, family, data, number among the truth's ``full_bayes``, hyperprior.
FULL_BAYES = [
    ("eight_schools", NORMAL, eight_schools, 0, {"mu": "normal(0, 5)", "tau": "half_cauchy(5)"}),
    ("eight_schools", NORMAL, eight_schools, 1, {"tau": "uniform"}),
    ("eight_schools", NORMAL, eight_schools, 2, {"tau": "half_normal(10)"}),
    ("eight_schools", NORMAL, eight_schools, 3, {"tau": "half_cauchy(5)"}),
    ("efron_morris_1975", NORMAL, batting, 0, {"tau": "uniform"}),
    ("efron_morris_1975", NORMAL, batting, 1, {"tau": "half_normal(1)"}),
    ("efron_morris_1975", NORMAL, batting, 2, {"tau": "half_cauchy(1)"}),
    ("rat_tumours", "beta_binomial", rats, 0, "bda3"),
    (
        "pumps",
        "gamma_poisson",
        pumps,
        0,
        {"shape": "exponential(1)", "rate": "gamma(0.1, 1)"},
    ),
    ("pumps", "gamma_poisson", pumps, 1, "shape^-1.5 rate^-1"),
    (
        "dyestuff",
        "normal",
        dyestuff,
        0,
        {"sigma": "half_normal(100)", "tau": "half_normal(100)"},
    ),
    ("dyestuff", "normal", dyestuff, 1, {"sigma": "reciprocal", "tau": "uniform"}),
]

#: Regressions: names of their coefficients, and the hyperprior of the truth's full Bayes.
COEFFICIENTS = {
    "sleepstudy": ["intercept", "slope"],
    "cheese": ["intercept", "disp", "log_price"],
}
HYPERPRIORS = {
    "sleepstudy": {
        "sigma": "half_normal(100)",
        "tau": ["half_normal(100)", "half_normal(20)"],
        "correlation": "lkj(2)",
    },
    "cheese": {"sigma": "half_normal(1)", "tau": "half_normal(3)", "correlation": "lkj(2)"},
}


@cache
def regression(case):
    """Stores of sleepstudy or cheese, in the order of the truth."""
    data = columns(case)
    if case == "sleepstudy":
        names, response = data["subject"], data["reaction"].astype(float)
        predictors = [data["days"].astype(float)]
    else:
        names, response = data["retailer"], np.log(data["volume"].astype(float))
        predictors = [data["disp"].astype(float), np.log(data["price"].astype(float))]
    groups, codes = np.unique(names, return_inverse=True)
    assert groups.tolist() == truth(case)["eb_plugin"]["groups"]["intercept"]["id"]
    design = np.column_stack([np.ones(len(response)), *predictors])
    family = get_family(REGRESSION, design.shape[1])
    return family.summarise({"response": response, "predictors": design}, codes, len(groups))
