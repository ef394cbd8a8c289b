"""The simulated world: chains, their hyperparameters, and the true value of every store.

Every chain follows the models that the pipeline fits, so a fit can be held against the truth:

- conversion: ``theta_j ~ Beta(alpha, beta)``, each event converts with probability ``theta_j``;
- amount: ``log amount ~ Normal(m_j, sigma)`` with ``m_j ~ Normal(mu, tau)``.

Sizes are not modelled by the pipeline and are made awkward on purpose: the number of stores of
a chain falls like Zipf's law down to chains of one store, and traffic per store is log-normal
with so wide a spread that the median store is tiny and the largest holds a visible share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: From the stores that convert least to those that convert most, more often than not.
FORMATS = ("kiosk", "street", "mall")
_TRAFFIC_SPREAD = 1.7  # sd of log traffic; retail data show medians of 200 beside maxima of 10^6


@dataclass(frozen=True)
class World:
    """``K`` chains and ``J`` stores with their true parameters.

    ``chain_of_store`` (J,) is the chain of each store; ``traffic`` (J,) the mean number of
    events on an average day; ``conversion`` (J,) a probability; ``log_amount`` (J,) a mean of
    logarithms; ``hyperparameters`` name → (K,).
    """

    chain_names: tuple[str, ...]
    store_names: tuple[str, ...]
    chain_of_store: NDArray[np.int32]
    traffic: NDArray[np.float64]
    conversion: NDArray[np.float64]
    log_amount: NDArray[np.float64]
    hyperparameters: dict[str, NDArray[np.float64]]

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Sd of log amount within each store, (J,): it is common to the stores of a chain."""
        return self.hyperparameters["sigma"][self.chain_of_store]

    def chains(self) -> pa.Table:
        """Return one row per chain: ``chain_id``, ``stores``, and its hyperparameters."""
        stores = np.bincount(self.chain_of_store, minlength=len(self.chain_names))
        columns: dict[str, Any] = {"chain_id": list(self.chain_names), "stores": stores}
        return pa.table(columns | self.hyperparameters)

    def stores(self) -> pa.Table:
        """Return one row per store: its chain, traffic, and true values."""
        return pa.table(
            {
                "chain_id": [self.chain_names[chain] for chain in self.chain_of_store],
                "store_id": list(self.store_names),
                "events_per_day": self.traffic,
                "conversion": self.conversion,
                "log_amount": self.log_amount,
            }
        )

    def attributes(self, rng: np.random.Generator) -> pa.Table:
        """Return one row per store: its chain, and a ``format`` and ``size_m2`` that tell of it.

        Half the variance of what decides the format, ``kiosk``, ``street`` or ``mall``, is how the
        store converts beside its chain; sizes grow with traffic.
        """
        alpha, beta = (self.hyperparameters[name] for name in ("alpha", "beta"))
        mean, total = alpha / (alpha + beta), alpha + beta
        sd = np.sqrt(mean * (1.0 - mean) / (1.0 + total))
        own = ((self.conversion - mean[self.chain_of_store]) / sd[self.chain_of_store]).clip(-3, 3)
        place = (own + rng.standard_normal(len(own))) / np.sqrt(2.0)
        log_size = 5.5 + 0.3 * np.log(self.traffic / np.median(self.traffic))
        size = np.exp(log_size + 0.4 * rng.standard_normal(len(own)))
        return pa.table(
            {
                "chain_id": [self.chain_names[chain] for chain in self.chain_of_store],
                "store_id": list(self.store_names),
                "format": np.array(FORMATS)[np.digitize(place, (-0.7, 0.7))].tolist(),
                "size_m2": np.round(np.maximum(size, 10.0)),
            }
        )


def draw_world(
    rng: np.random.Generator, *, chains: int, stores: int, events_per_day: float
) -> World:
    """Draw chains and stores; ``stores`` must be at least ``chains``.

    Returns
    -------
    World
        With the stores of a chain side by side and ``traffic`` summing to ``events_per_day``.
    """
    chain = np.repeat(np.arange(chains, dtype=np.int32), _stores_per_chain(chains, stores))
    hyperparameters = _draw_hyperparameters(rng, chains)
    size = np.exp(_TRAFFIC_SPREAD * rng.standard_normal(stores))
    of = {name: values[chain] for name, values in hyperparameters.items()}
    return World(
        chain_names=_names("chain", chains),
        store_names=_names("store", stores),
        chain_of_store=chain,
        traffic=events_per_day * size / size.sum(),
        conversion=rng.beta(of["alpha"], of["beta"]),
        log_amount=of["mu"] + of["tau"] * rng.standard_normal(stores),
        hyperparameters=hyperparameters,
    )


def _stores_per_chain(chains: int, stores: int) -> NDArray[np.int64]:
    """Share out the stores by Zipf's law, one at least to each chain, by largest remainder."""
    weight = 1.0 / np.arange(1, chains + 1)
    wanted = weight / weight.sum() * (stores - chains)
    whole: NDArray[np.int64] = np.floor(wanted).astype(np.int64) + 1
    missing = stores - int(whole.sum())
    whole[np.argsort(whole - wanted, kind="stable")[:missing]] += 1
    return whole


def _draw_hyperparameters(rng: np.random.Generator, chains: int) -> dict[str, NDArray[np.float64]]:
    mean = 1.0 / (1.0 + np.exp(-rng.normal(-2.4, 0.6, chains)))
    concentration = np.exp(rng.uniform(np.log(20.0), np.log(400.0), chains))
    return {
        "alpha": mean * concentration,
        "beta": (1.0 - mean) * concentration,
        "mu": rng.normal(3.2, 0.4, chains),
        "tau": np.exp(rng.uniform(np.log(0.05), np.log(0.5), chains)),
        "sigma": rng.uniform(0.4, 0.9, chains),
    }


def _names(kind: str, count: int) -> tuple[str, ...]:
    width = len(str(count - 1))
    return tuple(f"{kind}-{index:0{width}d}" for index in range(count))
