"""Markov chains side by side: draws, their metric, and whether the chains agree.

For densities of which importance sampling gets no hold. Such a density is known only by its
values, so gradients are central differences. Seeds are fixed: the same data give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.numerics.modes import LogDensity, root_of
from hbpipe.model.numerics.nuts import Asking, T, walk

#: R̂ up to which chains agree, and the number of effective draws that are wanted.
R_HAT_LIMIT, ENOUGH = 1.01, 1000.0
#: Windows of the warm-up; before each but the first the metric is estimated anew.
_FIRST, _WINDOWS = 75, (150, 300)
#: Draws of a chain at a time, and how often more are added.
_LENGTH, _TIMES = 500, 8
#: Gradients of all chains together, after which they end with what they have: a minute or less
#: for a small pool.
_BUDGET = 250_000
#: Step of central differences, in sds.
_DIFFERENCE = 1e-3
_SEED = 20240607


@dataclass(frozen=True)
class Chains:
    """Draws (C, N, V) of chains, and what they say of themselves.

    ``r_hat`` is the largest split R̂ of a variable, infinite where the warm-up did not end;
    ``ess`` the smallest effective size.
    """

    draws: Array
    r_hat: float
    ess: float

    @property
    def agree(self) -> bool:
        """Whether all chains tell the same."""
        return self.r_hat <= R_HAT_LIMIT


def disagreement(r_hat: float, remedy: str, **where: int) -> FitError:
    """Return the error of whoever needs what chains that disagree were to tell."""
    return FitError(
        "the posterior of the hyperparameters could not be integrated: its Markov chains disagree",
        where={"r_hat": round(r_hat, 3), **where},
        expected=f"a split R-hat of at most {R_HAT_LIMIT}",
        remedy=remedy,
    )


def draw_chains(density: LogDensity, starts: Array, root: Array) -> Chains:
    """Draw until the chains agree and are worth enough draws, or are as long as they may get.

    They are when the budget of gradients is spent, too. Then the window that was begun is left
    out; without a window after the warm-up the draws are those of its last, and do not agree.

    Parameters
    ----------
    density
        The log density.
    starts
        (C, V) where the chains begin, with finite density.
    root
        (V, V) square root of a covariance: the metric that the warm-up begins with.
    """
    streams = [np.random.default_rng([_SEED, chain]) for chain in range(len(starts))]
    steps, window, counted = np.full(len(starts), 0.5), starts[:, None], _Counted(density, _BUDGET)
    found = Chains(window, np.inf, 1.0)
    parts: list[Array] = []
    try:
        for number, length in enumerate((_FIRST, *_WINDOWS)):
            if number:
                root = _metric(window[:, window.shape[1] // 3 :])
            window, steps = _run(counted, root, window[:, -1], streams, length, steps, adapt=True)
            found = Chains(window, np.inf, 1.0)
        for _ in range(_TIMES):
            window, _ = _run(counted, root, window[:, -1], streams, _LENGTH, steps, adapt=False)
            parts.append(window)
            draws = np.concatenate(parts, axis=1)
            r_hat, ess = np.max(split_r_hat(draws)), np.min(effective_size(draws))
            found = Chains(draws, float(r_hat), float(ess))
            if found.agree and found.ess >= ENOUGH:
                break
    except _SpentError:
        return found
    return found


class _SpentError(Exception):
    """The budget of gradients is spent."""


@dataclass
class _Counted:
    """A log density with gradients, for as long as the budget lasts."""

    density: LogDensity
    left: int

    def with_gradient(self, root: Array, positions: Array) -> list[tuple[float, Array]]:
        """Log density and gradient at positions (C, V) in units of ``root``."""
        self.left -= len(positions)
        if self.left < 0:
            raise _SpentError
        return _with_gradient(self.density, root, positions)


def _metric(draws: Array) -> Array:
    """Root of the covariance of all chains' draws (C, N, V), drawn a little to its diagonal."""
    together = draws.reshape(-1, draws.shape[2])
    offset = together - np.mean(together, axis=0)
    covariance = np.einsum("si,sj->ij", offset, offset) / len(together)
    share = 10.0 / (10.0 + len(together))
    return root_of(covariance * (1.0 - share) + np.diag(np.diag(covariance)) * share)


def _run(
    counted: _Counted,
    root: Array,
    states: Array,
    streams: list[np.random.Generator],
    length: int,
    steps: Array,
    *,
    adapt: bool,
) -> tuple[Array, Array]:
    """Draws (C, N, V) and step sizes (C,) of one window; chains move in units of ``root``."""
    standard = np.linalg.solve(root, states.T).T
    walks = [
        walk(start, stream, length, step, adapt=adapt)
        for start, stream, step in zip(standard, streams, steps.tolist(), strict=True)
    ]
    found = _answer(counted, root, walks)
    draws = np.einsum("cnk,vk->cnv", np.stack([draws for draws, _ in found]), root)
    return draws, np.array([step for _, step in found])


def _answer(counted: _Counted, root: Array, walks: list[Asking[T]]) -> list[T]:
    """Run coroutines to their ends; one call answers the open questions of all."""
    results: dict[int, T] = {}
    asked = {number: next(each) for number, each in enumerate(walks)}
    while asked:
        answers = counted.with_gradient(root, np.stack(list(asked.values())))
        for number, answer in zip(list(asked), answers, strict=True):
            try:
                asked[number] = walks[number].send(answer)
            except StopIteration as end:
                del asked[number]
                results[number] = end.value
    return [results[number] for number in range(len(walks))]


def _with_gradient(density: LogDensity, root: Array, positions: Array) -> list[tuple[float, Array]]:
    """Log density and gradient at positions (C, V) in units of ``root``."""
    count, variables = positions.shape
    axes = _DIFFERENCE * np.eye(variables)
    stencil = np.concatenate([np.zeros((1, variables)), axes, -axes])
    points = (positions[:, None, :] + stencil).reshape(-1, variables)
    values = density(np.einsum("sk,vk->sv", points, root)).reshape(count, -1)
    possible = np.isfinite(values)
    ends = np.where(possible, values, 0.0)
    gradient = (ends[:, 1 : variables + 1] - ends[:, variables + 1 :]) / (2.0 * _DIFFERENCE)
    # Where the density ends there is no gradient: a point next to it counts as beyond it.
    value = np.where(possible.all(axis=1), values[:, 0], -np.inf)
    return list(zip(value.tolist(), gradient, strict=True))


def split_r_hat(draws: Array) -> Array:
    """Split R̂ of each variable, (V,), from draws (C, N, V) of C chains (BDA3, section 11.4)."""
    halves = _split(draws)
    within = np.mean(np.var(halves, axis=1, ddof=1), axis=0)
    return np.asarray(np.sqrt(_total_variance(halves) / within))


def effective_size(draws: Array) -> Array:
    """Effective number of draws of each variable, (V,), from draws (C, N, V).

    Autocorrelations of the split chains are summed over Geyer's (1992) initial monotone
    sequence, as in Vehtari et al. (2021), section 3.2.
    """
    halves = _split(draws)
    chains, length, variables = halves.shape
    within = np.mean(np.var(halves, axis=1, ddof=1), axis=0)
    spectrum = np.fft.rfft(halves - np.mean(halves, axis=1, keepdims=True), 2 * length, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :length] / length
    correlation = 1.0 - (within - np.mean(covariance, axis=0)) / _total_variance(halves)
    correlation[0] = 1.0
    pairs = correlation[: length // 2 * 2].reshape(-1, 2, variables).sum(axis=1)
    positive = np.logical_and.accumulate(pairs > 0, axis=0)
    monotone = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=0)
    time = np.maximum(2.0 * np.sum(monotone, axis=0) - 1.0, 1.0 / np.log10(chains * length))
    return np.asarray(chains * length / time)


def _split(draws: Array) -> Array:
    """Halves of the chains as chains of their own, (2 C, N / 2, V)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _total_variance(halves: Array) -> Array:
    """Estimate the variance of the target from within and between chains, (V,)."""
    length = halves.shape[1]
    within = np.mean(np.var(halves, axis=1, ddof=1), axis=0)
    between = np.var(np.mean(halves, axis=1), axis=0, ddof=1)
    return np.asarray((length - 1.0) / length * within + between)
