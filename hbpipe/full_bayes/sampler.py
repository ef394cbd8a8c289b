"""Full Bayes by NUTS: several chains, run until their draws are worth enough, or given up.

The sampler is numpyro's (Phan, Pradhan and Jankowiak 2019), with a dense mass matrix of the
hyperparameters. The centred parametrisation makes a block of draws. Where it diverges, or its draws
are worth little, the non-centred one does so too; the one that diverged less, and if neither did
the one whose draws are worth more, goes on block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.full_bayes import convergence
from hbpipe.full_bayes.answer import Answer
from hbpipe.full_bayes.library import require_sampler
from hbpipe.full_bayes.target import Position, Target

Array = NDArray[np.float64]

#: Chains agree up to this R-hat (Vehtari et al. 2021).
MOST_R_HAT = 1.01
#: More divergent draws than this share say that some region is not reached.
MOST_DIVERGENT = 1e-3
#: A parametrisation whose draws are worth this share of their number needs no other one.
WORTH_KEEPING = 0.1


@dataclass(frozen=True)
class Effort:
    """How much a sampler may do.

    Parameters
    ----------
    chains, warmup
        Chains, and the draws that each of them adapts in.
    block, blocks
        Draws of each chain in a block, and the most blocks.
    worth
        Effective size, of bulk and of tails, after which it stops; also the least to be compared.
    """

    chains: int = 4
    warmup: int = 500
    block: int = 500
    blocks: int = 8
    worth: float = 400.0


@dataclass
class _Chains:
    """Chains of one parametrisation, and the draws that they have made so far."""

    centred: bool
    sampler: Any
    theta: Array  # (C, N, J, T)
    h: Array  # (C, N, D)
    divergences: int

    @property
    def flat(self) -> Array:
        """All quantities side by side, (C, N, K)."""
        return np.concatenate([self.h, self.theta.reshape(*self.theta.shape[:2], -1)], axis=2)

    @property
    def worth(self) -> float:
        """The least effective size of all quantities, in the middle and in the tails."""
        return float(min(convergence.bulk(self.flat).min(), convergence.tail(self.flat).min()))


def sample(
    target: Target, levels: tuple[float, float], *, seed: int, effort: Effort | None = None
) -> Answer:
    """Draw from the posterior of hyperparameters and stores together.

    Parameters
    ----------
    levels
        Of the two quantiles.
    seed
        Of everything random.

    Returns
    -------
    Answer
        With ``trouble`` where the chains do not agree, diverge, or have drawn too little.

    Raises
    ------
    ConfigError
        Where numpyro is not installed.
    """
    require_sampler()
    import numpyro

    numpyro.enable_x64()  # likelihoods of large pools are differences of large numbers
    effort = effort or Effort()
    chains = _begin(target, True, seed, effort)
    if chains.divergences or chains.worth < WORTH_KEEPING * effort.chains * effort.block:
        other = _begin(target, False, seed, effort)
        chains = min(chains, other, key=lambda one: (one.divergences, -one.worth))
    done = 1
    while done < effort.blocks and not _enough(chains, effort):
        _extend(target, chains)
        done += 1
    return _answer(chains, levels, seed, effort)


def _begin(target: Target, centred: bool, seed: int, effort: Effort) -> _Chains:
    """Adapt, and draw the first block."""
    import jax
    from numpyro.infer import MCMC, NUTS

    def potential(position: Position) -> Any:
        return -target.log_density(position, centred=centred)

    start = target.start(np.random.default_rng(seed), effort.chains)
    kernel = NUTS(
        potential_fn=potential,
        dense_mass=[("h",)] if start["h"].shape[1] else False,
        target_accept_prob=0.9,
    )
    sampler = MCMC(
        kernel,
        num_warmup=effort.warmup,
        num_samples=effort.block,
        num_chains=effort.chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(
        jax.random.PRNGKey(seed),
        init_params={name: jax.numpy.asarray(values) for name, values in start.items()},
        extra_fields=("diverging",),
    )
    return _Chains(centred, sampler, *_drawn(target, sampler, centred))


def _extend(target: Target, chains: _Chains) -> None:
    """Draw another block from where the chains are."""
    sampler = chains.sampler
    sampler.post_warmup_state = sampler.last_state
    sampler.run(sampler.post_warmup_state.rng_key, extra_fields=("diverging",))
    theta, h, divergences = _drawn(target, sampler, chains.centred)
    chains.theta = np.concatenate([chains.theta, theta], axis=1)
    chains.h = np.concatenate([chains.h, h], axis=1)
    chains.divergences += divergences


def _drawn(target: Target, sampler: Any, centred: bool) -> tuple[Array, Array, int]:
    """Return the draws of a block: terms of the stores, hyperparameters, divergences."""
    import jax

    positions = sampler.get_samples(group_by_chain=True)
    every = jax.jit(jax.vmap(jax.vmap(partial(target.theta, centred=centred))))
    divergent = int(np.sum(sampler.get_extra_fields(group_by_chain=True)["diverging"]))
    return np.asarray(every(positions)), np.asarray(positions["h"]), divergent


def _enough(chains: _Chains, effort: Effort) -> bool:
    agree = convergence.r_hat(chains.flat).max() <= MOST_R_HAT
    return bool(agree and chains.worth >= effort.worth)


def _answer(chains: _Chains, levels: tuple[float, float], seed: int, effort: Effort) -> Answer:
    draws, shape = chains.theta, chains.theta.shape[2:]
    everything = chains.flat
    told = {
        "parametrisation": "centred" if chains.centred else "non-centred",
        "chains": effort.chains,
        "draws": draws.shape[0] * draws.shape[1],
        "R-hat": float(convergence.r_hat(everything).max()),
        "bulk ESS": float(convergence.bulk(everything).min()),
        "tail ESS": float(convergence.tail(everything).min()),
        "divergences": chains.divergences,
        "seed": seed,
    }
    low, high = np.quantile(draws, levels, axis=(0, 1))
    errors = convergence.errors(draws.reshape(*draws.shape[:2], -1), levels)
    return Answer(
        mean=draws.mean(axis=(0, 1)),
        sd=draws.std(axis=(0, 1)),
        low=low,
        high=high,
        error={
            name: np.asarray(values, np.float64).reshape(shape) for name, values in errors.items()
        },
        method="nuts",
        told=told,
        trouble=_trouble(told, effort),
    )


def _trouble(told: dict[str, Any], effort: Effort) -> str | None:
    """Say why chains cannot be relied on; None where they can."""
    faults = []
    if not told["R-hat"] <= MOST_R_HAT:
        faults.append(f"chains disagree, R-hat {told['R-hat']:.3g} above {MOST_R_HAT:g}")
    if told["divergences"] > MOST_DIVERGENT * told["draws"]:
        faults.append(f"{told['divergences']} of {told['draws']} draws diverged")
    worth = min(told["bulk ESS"], told["tail ESS"])
    if not worth >= effort.worth:
        faults.append(f"draws are worth {worth:.0f}, less than {effort.worth:g}")
    return "; ".join(faults) or None
