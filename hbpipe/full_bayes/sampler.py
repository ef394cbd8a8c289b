"""Full Bayes by NUTS: several chains, run until their draws are worth enough, or given up.

The sampler is numpyro's (Phan, Pradhan and Jankowiak 2019), with a dense mass matrix of the
hyperparameters. The centred parametrisation makes a block of draws. Where it diverges, or its draws
are worth little, the non-centred one does so too; the one that diverged less, and if neither did
the one whose draws are worth more, goes on block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.full_bayes import convergence
from hbpipe.full_bayes.answer import Answer
from hbpipe.full_bayes.library import require_sampler
from hbpipe.full_bayes.target import Target

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
    chains, block
        Chains, and the draws of each that are made at once.
    warmup, blocks
        Blocks that it adapts in, and the most that are kept.
    worth
        Effective size, of bulk and of tails, after which it stops; also the least to be compared.
    """

    chains: int = 4
    block: int = 250
    warmup: int = 2
    blocks: int = 16
    worth: float = 400.0


@dataclass
class _Chains:
    """Chains of one parametrisation, where they are, and the draws that they have made so far."""

    centred: bool
    state: Any
    #: State → the state after a block, and what it drew.
    draw: Callable[[Any], Any]
    theta: Array  # (C, N, J, T)
    h: Array  # (C, N, D)
    divergences: int = 0

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
        _extend(chains)
        done += 1
    return _answer(chains, levels, seed, effort)


def _begin(target: Target, centred: bool, seed: int, effort: Effort) -> _Chains:
    """Adapt, and draw the first block.

    Adapting and drawing are the same compiled function of a block: it takes longer to compile it
    than to run it.
    """
    import jax
    from numpyro.infer import NUTS

    start = target.start(np.random.default_rng(seed), effort.chains)
    kernel = NUTS(
        # Compiled by itself too: the sampler first calls it operation by operation.
        potential_fn=jax.jit(lambda position: -target.log_density(position, centred=centred)),
        dense_mass=[("h",)] if start["h"].shape[1] else False,
        target_accept_prob=0.9,
    )
    keys = jax.random.split(jax.random.PRNGKey(seed), effort.chains)
    places = {name: jax.numpy.asarray(values) for name, values in start.items()}
    state = kernel.init(keys, effort.warmup * effort.block, places, (), {})
    theta = jax.vmap(partial(target.theta, centred=centred))

    def step(state: Any, _: None) -> Any:
        after = kernel.sample(state, (), {})
        return after, (theta(after.z), after.z["h"], after.diverging)

    draw = jax.jit(lambda state: jax.lax.scan(step, state, None, length=effort.block))
    for _ in range(effort.warmup):
        state, _ = draw(state)
    stores, free = start["stores"].shape[1], start["h"].shape[1]
    terms = int(np.prod(start["stores"].shape[2:], initial=1))
    none = np.empty((effort.chains, 0, stores, terms)), np.empty((effort.chains, 0, free))
    chains = _Chains(centred, state, draw, *none)
    _extend(chains)
    return chains


def _extend(chains: _Chains) -> None:
    """Draw another block from where the chains are."""
    chains.state, (theta, h, diverging) = chains.draw(chains.state)
    chains.theta = np.concatenate([chains.theta, np.swapaxes(theta, 0, 1)], axis=1)
    chains.h = np.concatenate([chains.h, np.swapaxes(h, 0, 1)], axis=1)
    chains.divergences += int(np.sum(diverging))


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
        trouble=trouble_of(told, effort),
    )


def trouble_of(told: dict[str, Any], effort: Effort) -> str | None:
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
