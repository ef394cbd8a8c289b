"""Full Bayes of varying intercepts and slopes: y ~ N(x'b, σ²), b ~ N(μ, Σ), Σ = diag(τ) R diag(τ).

The hyperprior is one of c = C b, with C the identity where it is stated for b itself. Everything is
computed for c, whose predictors are C⁻ᵀ x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.full_bayes.axes import Axis
from hbpipe.full_bayes.densities import log_density
from hbpipe.full_bayes.library import Library, jax_library
from hbpipe.full_bayes.target import JITTER, Position
from hbpipe.model.families import get_family
from hbpipe.model.regression.separation import Separation, compile_separation

Array = NDArray[np.float64]
#: ``n`` (J,), means ``x`` (J, P) and ``y`` (J,), and centred products ``xx``, ``xy``, ``yy``.
Products = Mapping[str, Array]


@dataclass(frozen=True)
class Coefficients:
    """A pool of regressions.

    Parameters
    ----------
    prior
        The compiled hyperprior.
    inverse
        C⁻¹ (P, P).
    sigma
        σ where it is known.
    chosen, others
        Products of the predictors of c.
    guess, step
        (P,) crude coefficients c, and their sds from an average store.
    noise
        Crude σ.
    """

    prior: Separation
    inverse: Array
    sigma: float | None
    chosen: Products
    others: Products
    guess: Array
    step: Array
    noise: float

    @cached_property
    def _library(self) -> Library:
        return jax_library()

    @property
    def rows(self) -> int:
        """How many likelihoods a step evaluates: one for each store with data or chosen."""
        return len(self.chosen["n"]) + len(self.others["n"])

    @property
    def _size(self) -> int:
        return len(self.guess)

    @cached_property
    def _scales(self) -> tuple[Axis, ...]:
        """The axes of τ, and of σ where it is free."""
        tau = [Axis("tau", "positive", float(step)) for step in self.step]
        return (*tau, *(() if self.sigma is not None else (Axis("sigma", "positive", self.noise),)))

    def start(self, rng: np.random.Generator, chains: int) -> dict[str, Array]:
        """As ``Target.start``."""
        size, stores = self._size, len(self.chosen["n"])
        free = size + len(self._scales) + size * (size - 1) // 2
        return {
            "h": rng.normal(0.0, JITTER, (chains, free)),
            "stores": rng.normal(0.0, JITTER, (chains, stores, size)),
        }

    def log_density(self, position: Position, *, centred: bool) -> Any:
        """As ``Target.log_density``."""
        xp = self._library.np
        mu, factor, sigma, total = self._hyperparameters(position["h"])
        places, stores = position["stores"], len(self.chosen["n"])
        if centred:
            coefficients = self.guess + self.step * places
            distances = _solve(xp, factor, coefficients - mu)
            total = total - stores * xp.sum(xp.log(xp.diagonal(factor)))
        else:
            coefficients, distances = mu + places @ factor.T, places
        total = total - 0.5 * xp.sum(distances**2)
        squares = _squares(self.chosen, coefficients)
        total = total - xp.sum(self.chosen["n"] * xp.log(sigma) + 0.5 * squares / sigma**2)
        return total + _log_marginal(xp, self.others, mu, factor, sigma)

    def theta(self, position: Position, *, centred: bool) -> Any:
        """As ``Target.theta``: the user's own coefficients b."""
        mu, factor, _, _ = self._hyperparameters(position["h"])
        places = position["stores"]
        coefficients = self.guess + self.step * places if centred else mu + places @ factor.T
        return coefficients @ self.inverse.T

    def _hyperparameters(self, h: Any) -> tuple[Any, Any, Any, Any]:
        """Return μ, diag(τ) L with L L' = R, σ, and log prior with all Jacobians."""
        xp, size = self._library.np, self._size
        mu, rest = self.guess + self.step * h[:size], h[size:]
        placed = [axis.at(self._library, x) for axis, x in zip(self._scales, rest, strict=False)]
        total = sum(jacobian for _, jacobian in placed)
        values = [next(iter(value.values())) for value, _ in placed]
        tau = xp.stack(values[:size])
        sigma = self.sigma if self.sigma is not None else values[size]
        for k, terms in enumerate(self.prior.tau):
            square = tau[k] ** 2
            named = {"tau": tau[k], "tau_squared": square, "odds": square / sigma**2}
            total = total + log_density(self._library, terms, {**named, "sigma": sigma})
        total = total + log_density(self._library, self.prior.sigma, {"sigma": sigma})
        factor, more = _correlation(rest[len(self._scales) :], size, self.prior.eta)
        return mu, tau[:, None] * factor, sigma, total + more


def pose_regression(
    statistics: Mapping[str, NDArray[Any]],
    chosen: NDArray[np.int64],
    *,
    hyperprior: Any = None,
    fixed: Mapping[str, Any] | None = None,
) -> Coefficients:
    """Pose the question for some stores of a pool; see ``problem.pose``.

    Raises
    ------
    FitError
        When μ or Σ are held, which is not audited, or the hyperprior does not fit.
    """
    held = dict(fixed or {})
    sigma = held.pop("sigma", None)
    if held:
        raise FitError(
            f"{', '.join(held)} of a regression is held",
            expected="nothing held but sigma, where full Bayes is to be had",
        )
    size = statistics["means"].shape[1] - 1
    model = get_family("normal_regression", size)
    sketch = model.compress(statistics, np.zeros(len(statistics["n"]), np.int64), 1)
    known = np.full(len(model.coordinates), np.nan)
    known[-1] = np.nan if sigma is None else np.log(float(sigma))
    prior = compile_separation(hyperprior, sketch, known)
    inverse = np.eye(size) if prior.frame is None else np.linalg.inv(prior.frame[0])
    products = _products(statistics, inverse)
    rest = np.setdiff1d(np.flatnonzero(products["n"] > 0), chosen)
    guess, step, noise = _guess(products)
    return Coefficients(
        prior=prior,
        inverse=inverse,
        sigma=None if sigma is None else float(sigma),
        chosen={name: values[chosen] for name, values in products.items()},
        others={name: values[rest] for name, values in products.items()},
        guess=guess,
        step=step,
        noise=noise,
    )


def _products(statistics: Mapping[str, NDArray[Any]], inverse: Array) -> dict[str, Array]:
    """Return the products of the predictors C⁻ᵀ x; zeros for a store without data."""
    n = np.asarray(statistics["n"], np.float64)
    seen = (n > 0)[:, None]
    means = np.where(seen, statistics["means"], 0.0)
    cross = np.where(seen[:, :, None], statistics["cross"], 0.0)
    return {
        "n": n,
        "x": means[:, :-1] @ inverse,
        "y": means[:, -1],
        "xx": inverse.T @ cross[:, :-1, :-1] @ inverse,
        "xy": cross[:, :-1, -1] @ inverse,
        "yy": cross[:, -1, -1],
    }


def _guess(products: Products) -> tuple[Array, Array, float]:
    """Least squares of all rows as one store, its sds for an average store, and σ."""
    xx, xy, _ = _raw(products, np.zeros(products["x"].shape[1]))
    total, stores = xx.sum(axis=0), max(int((products["n"] > 0).sum()), 1)
    guess = np.linalg.solve(total, xy.sum(axis=0))
    left = float(np.sum(_squares(products, guess)))
    noise = np.sqrt(left / products["n"].sum())
    step = noise * np.sqrt(np.diagonal(np.linalg.inv(total)) * stores)
    return guess, step, float(noise)


def _raw(products: Products, mu: Any) -> tuple[Any, Any, Any]:
    """X'X (J, P, P), X'(y − Xμ) (J, P) and its squares (J,), around zero."""
    n, x = products["n"], products["x"]
    left = products["y"] - x @ mu
    xx = products["xx"] + n[:, None, None] * x[:, :, None] * x[:, None, :]
    xy = products["xy"] - products["xx"] @ mu + (n * left)[:, None] * x
    return xx, xy, _squares(products, mu)


def _squares(products: Products, coefficients: Any) -> Any:
    """Squares of the residuals of each store, (J,), at coefficients (P,) or (J, P)."""
    left = products["y"] - (products["x"] * coefficients).sum(axis=-1)
    own = (products["xx"] * (coefficients[..., None] * coefficients[..., None, :])).sum((-1, -2))
    within = products["yy"] - 2.0 * (products["xy"] * coefficients).sum(axis=-1) + own
    return within + products["n"] * left**2


def _log_marginal(xp: Any, products: Products, mu: Any, factor: Any, sigma: Any) -> Any:
    """Log p(y | μ, Σ, σ) of all stores, coefficients integrated out.

    With Λ Λ' = Σ/σ² and M = I + Λ'X'XΛ: −n log σ − ½ log|M| − ½ (r'r − u'M⁻¹u)/σ², where
    r = y − Xμ and u = Λ'X'r.
    """
    if not len(products["n"]):
        return 0.0
    xx, xr, rr = _raw(products, mu)
    relative = factor / sigma
    matrix = xp.eye(len(relative)) + relative.T @ xx @ relative
    lower = _cholesky(xp, matrix)
    shrunk = _solve(xp, lower, xr @ relative)
    logs = xp.log(xp.diagonal(lower, axis1=-2, axis2=-1)).sum(axis=-1)
    squares = (rr - (shrunk**2).sum(axis=-1)) / sigma**2
    return xp.sum(-products["n"] * xp.log(sigma) - logs - 0.5 * squares)


def _solve(xp: Any, lower: Any, right: Any) -> Any:
    """Solve lower triangular systems (..., P, P) for rows (..., P), by forward substitution.

    Written out, as is Cholesky's factor: P is small, and LAPACK is called matrix by matrix.
    """
    found: list[Any] = []
    for i in range(right.shape[-1]):
        known = sum((lower[..., i, k] * x for k, x in enumerate(found)), 0.0)
        found.append((right[..., i] - known) / lower[..., i, i])
    return xp.stack(found, axis=-1)


def _cholesky(xp: Any, matrix: Any) -> Any:
    """Return Cholesky's factors of positive definite matrices (..., P, P)."""
    size = matrix.shape[-1]
    rows: list[list[Any]] = []
    for i in range(size):
        row: list[Any] = []
        for k in range(i):
            known = sum((a * b for a, b in zip(row, rows[k], strict=False)), 0.0)
            row.append((matrix[..., i, k] - known) / rows[k][k])
        row.append(xp.sqrt(matrix[..., i, i] - sum((a * a for a in row), 0.0)))
        rows.append(row)
    zero = xp.zeros_like(rows[0][0])
    full = [xp.stack([*row, *[zero] * (size - len(row))], axis=-1) for row in rows]
    return xp.stack(full, axis=-2)


def _correlation(free: Any, size: int, eta: float) -> tuple[Any, Any]:
    """Return L (P, P) of a correlation matrix, and log LKJ(η) with the Jacobian of ``free``."""
    import jax.numpy as jnp
    from numpyro.distributions import LKJCholesky
    from numpyro.distributions.transforms import CorrCholeskyTransform

    if size == 1:
        return jnp.ones((1, 1)), 0.0
    transform = CorrCholeskyTransform()
    factor = transform(free)
    density = LKJCholesky(size, eta).log_prob(factor)
    return factor, density + transform.log_abs_det_jacobian(free, factor)
