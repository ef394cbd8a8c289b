"""Log scores of stores never seen: gains on mixed chains, next to no loss on clean ones."""

import numpy as np
import pytest
from scipy import special, stats

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.mixtures.evidence import log_evidence

STORES, NEW = 100, 1000


def draw(rng: np.random.Generator, shape: tuple[int, int], chains: str) -> dict:
    """Variances of 0.4 to 2.5, and θ of sd 1; of mixed chains some about another mean."""
    variance = np.exp(rng.uniform(-0.9, 0.9, shape))
    share, apart = {"clean": (0.0, 0.0), "contaminated": (0.06, 7.0), "bimodal": (0.4, 5.0)}[chains]
    theta = rng.normal(size=shape) + apart * (rng.random(shape) < share)
    return {"estimate": theta + rng.normal(size=shape) * np.sqrt(variance), "variance": variance}


def score(law: dict, proportion: np.ndarray, new: dict) -> float:
    """Mean log predictive density of new stores under a mixture of laws."""
    family = get_family("normal_known_variance")
    each = log_evidence(family, {k: v[:, None] for k, v in new.items()}, law)
    found = special.logsumexp(each, b=proportion, axis=1) + family.log_base_measure(new, {})
    return float(found.mean())


@pytest.mark.parametrize(
    ("chains", "pools", "least", "most"),
    [("clean", 30, -0.001, 0.002), ("contaminated", 8, 0.02, 1.0), ("bimodal", 8, 0.01, 1.0)],
)
def test_log_scores_against_a_single_law(
    chains: str, pools: int, least: float, most: float
) -> None:
    rng = np.random.default_rng(17)
    seen, ahead = draw(rng, (pools, STORES), chains), draw(rng, (pools, NEW), chains)
    family = get_family("normal_known_variance", prior="grid")
    codes = np.repeat(np.arange(pools), STORES)
    fits = fit_pools(family, family.compress({k: v.ravel() for k, v in seen.items()}, codes, pools))
    nodes = integrate_pools(fits)
    gained, size = [], []
    for pool in range(pools):
        new = {name: values[pool] for name, values in ahead.items()}
        at = fits.single.hyperparameters
        alone = score({"mu": at["mu"][pool], "tau": at["tau"][pool]}, np.ones(1), new)
        values = nodes.pools[pool].values
        if fits.several[pool]:
            law = {name: values[name][0] for name in ("mu", "tau")}
            gained.append(score(law, values["proportion"][0], new) - alone)
        else:
            gained.append(0.0)
        size.append(abs(alone))
    relative = np.sum(gained) / np.sum(size)
    assert least <= relative <= most
    if chains == "clean":
        assert fits.several.mean() <= 0.2
        # The score itself is that of the law that was drawn from, within what 100 stores tell.
        right = stats.norm.logpdf(ahead["estimate"], 0.0, np.sqrt(1.0 + ahead["variance"])).mean()
        assert -np.mean(size) - right > -0.02
    else:
        assert fits.several.mean() >= 0.9
