"""Stores with several terms: two effects with a covariance, against a dense grid."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from hbpipe.errors import StatisticsError
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.families import get_family
from hbpipe.model.family import Description
from hbpipe.model.integrate import hyperposterior
from hbpipe.model.integration.sampling import Conditional, Predictive, Sampling
from hbpipe.model.update.pools import cdf_pools, update_pools
from hbpipe.model.update.sampled_update import covariance_sampled, predict_sampled

LEVELS = (0.025, 0.5, 0.975)


@dataclass(frozen=True)
class Pools:
    """Estimates (J, 2) of both effects with the variance (J,) of each, and their pools."""

    estimate: np.ndarray
    variance: np.ndarray
    pool: np.ndarray

    @property
    def n_rows(self):
        return len(self.variance)

    @property
    def n_pools(self):
        return int(self.pool.max()) + 1

    @property
    def n_groups(self):
        return np.bincount(self.pool)

    def select(self, pools):
        rows = self.pool == pools[0]
        return Pools(self.estimate[rows], self.variance[rows], np.zeros(rows.sum(), int))


def covariances(points):
    """(log τ₁, log τ₂, atanh ρ) -> (S, 2, 2)."""
    first, second = np.exp(points[:, 0]), np.exp(points[:, 1])
    both = np.tanh(points[:, 2]) * first * second
    return np.stack(
        [np.stack([first**2, both], axis=1), np.stack([both, second**2], axis=1)], axis=1
    )


@dataclass(frozen=True)
class Target:
    """Half-normal sds, a flat correlation; the means of both effects are 0."""

    pools: Pools
    names = ("log_tau_1", "log_tau_2", "atanh_rho")
    spreads = (0, 1)
    start = np.array([-0.5, -0.5, 0.0])

    def log_density(self, points):
        total = covariances(points)[:, None] + self.pools.variance[:, None, None] * np.eye(2)
        y = self.pools.estimate
        a, b, c = total[..., 0, 0], total[..., 0, 1], total[..., 1, 1]
        determinant = a * c - b * b
        square = (c * y[:, 0] ** 2 - 2 * b * y[:, 0] * y[:, 1] + a * y[:, 1] ** 2) / determinant
        likelihood = np.sum(-0.5 * square - 0.5 * np.log(determinant), axis=1)
        prior = points[:, 0] + points[:, 1] - 0.5 * np.sum(np.exp(2 * points[:, :2]), axis=1)
        return likelihood + prior - 2.0 * np.log(np.cosh(points[:, 2]))

    def nodes(self, points):
        return {"sigma": covariances(points)}


def conditional(statistics, nodes):
    noise = statistics["variance"][:, None, None, None] * np.eye(2)
    gain = nodes["sigma"] @ np.linalg.inv(nodes["sigma"] + noise)
    mean = np.einsum("jstu,ju->jst", gain, statistics["estimate"])
    covariance = gain @ np.broadcast_to(noise, gain.shape)
    variance = np.einsum("jstt->jst", covariance)
    return Conditional(
        law=NORMAL,
        parameters=(mean, np.sqrt(variance)),
        mean=mean,
        variance=variance,
        weight=np.einsum("jstt->jst", gain),
        prior_mean=np.zeros_like(mean),
        covariance=covariance,
    )


def predict(posterior, nodes, exposure):
    """The sum of both effects, with noise of variance 1/exposure."""
    mean = np.sum(posterior.mean, axis=2)
    variance = np.sum(posterior.covariance, axis=(2, 3)) + 1.0 / exposure[:, None]

    def mixed(weight, levels):
        centre = np.sum(weight * mean, axis=1)
        spread = np.sum(weight * (variance + (mean - centre[:, None]) ** 2), axis=1)
        return NORMAL.describe(centre, np.sqrt(spread), levels)

    return Predictive(mean, variance, mixed)


def known(statistics, hyperparameters):
    sigma = np.asarray(hyperparameters["sigma"])[:, None]
    found = conditional(statistics, {"sigma": sigma[0]})
    sd = np.sqrt(found.variance[:, 0])
    return {"mean": found.mean[:, 0], "sd": sd, "covariance": found.covariance[:, 0]}


def describe(posterior, levels):
    found = NORMAL.describe(posterior["mean"], posterior["sd"], levels)
    return Description(
        found.mean, found.sd, found.quantiles, found.cdf, covariance=posterior["covariance"]
    )


FAMILY = replace(
    get_family("normal_known_variance"),
    name="two_effects",
    geometry=None,
    raw=lambda statistics: np.asarray(statistics["estimate"]),
    raw_sd=lambda statistics, at: np.sqrt(statistics["variance"])[:, None] * np.ones(2),
    update=known,
    describe=describe,
    sampling=Sampling(
        target=lambda sketch, hyperprior, held, at: Target(sketch),
        conditional=conditional,
        predict=predict,
        terms=lambda statistics: ("first", "second"),
        representatives=lambda sketch: {
            "estimate": np.array([[0.0, 0.0], [2.0, -1.0]]),
            "variance": np.array([100.0, 0.3]),
        },
    ),
)


def data(seed=1, stores=12):
    rng = np.random.default_rng(seed)
    effects = rng.multivariate_normal([0, 0], [[1.0, 0.6], [0.6, 0.7]], stores)
    variance = np.exp(rng.normal(-1.0, 0.7, stores))
    return effects + rng.normal(size=effects.shape) * np.sqrt(variance)[:, None], variance


ESTIMATE, VARIANCE = data()
STORES = {"estimate": ESTIMATE, "variance": VARIANCE}
CODES = np.zeros(len(VARIANCE), int)
AT = {"sigma": np.array([[[1.0, 0.5], [0.5, 1.0]]])}


def nodes_of(uncertainty, pools=CODES):
    count = int(pools.max()) + 1
    return hyperposterior(
        FAMILY,
        Pools(ESTIMATE, VARIANCE, pools),
        np.zeros((count, 2)),
        held=np.full((count, 2), np.nan),
        uncertainty=uncertainty,
    )


def dense_grid():
    """Moments and limits of every store by brute force over 3 × 61 points."""
    axes = [np.linspace(-7.0, 1.6, 61), np.linspace(-7.0, 1.6, 61), np.linspace(-4.0, 4.0, 61)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    log_density = Target(Pools(ESTIMATE, VARIANCE, CODES)).log_density(points)
    weight = np.exp(log_density - log_density.max())
    kept = weight > 1e-7
    weight, points = weight[kept] / weight[kept].sum(), points[kept]
    found = conditional(STORES, {"sigma": covariances(points)})
    mean = np.einsum("s,jst->jt", weight, found.mean)
    offset = found.mean - mean[:, None]
    between = np.einsum("s,jst,jsu->jtu", weight, offset, offset)
    covariance = np.einsum("s,jstu->jtu", weight, found.covariance) + between
    return weight, found, mean, covariance


@pytest.fixture(scope="module")
def grid():
    return dense_grid()


def test_means_covariances_and_limits_agree_with_a_dense_grid(grid):
    weight, laws, mean, covariance = grid
    nodes = nodes_of("integrated")
    found = update_pools(FAMILY, nodes, AT, STORES, CODES, quantiles=LEVELS, exposure=4.0)
    sd = np.sqrt(np.einsum("jtt->jt", covariance))
    assert found.mean.shape == found.sd.shape == found.weight.shape == (12, 2)
    assert np.max(np.abs(found.mean - mean) / sd) < 0.01
    assert np.max(np.abs(found.sd / sd - 1.0)) < 0.01
    assert found.quantiles.shape == (12, 2, 3)
    for column, level in enumerate(LEVELS):
        at = found.quantiles[:, None, :, column]
        below = stats.norm(laws.mean, np.sqrt(laws.variance)).cdf(at)
        np.testing.assert_allclose(np.einsum("s,jst->jt", weight, below), level, atol=0.002)
    matrix = covariance_sampled(FAMILY, nodes, AT, STORES, CODES)
    np.testing.assert_allclose(matrix, covariance, atol=0.01 * sd.max() ** 2)
    assert nodes.pareto_k[0] < 0.7
    # The sum of both effects, and noise of variance 1/4.
    total = np.sum(covariance, axis=(1, 2)) + 0.25
    np.testing.assert_allclose(found.predictive_mean, mean.sum(axis=1), atol=0.01)
    np.testing.assert_allclose(found.predictive_sd, np.sqrt(total), rtol=0.01)
    described = predict_sampled(FAMILY, nodes, STORES, np.full(12, 4.0), np.array(LEVELS))
    np.testing.assert_allclose(described.sd, found.predictive_sd, rtol=1e-12)


def test_the_cdf_takes_a_number_a_point_for_each_term_or_for_each_store_and_term():
    nodes = nodes_of("integrated")
    whole = cdf_pools(FAMILY, nodes, AT, STORES, CODES, 0.5)
    assert whole.shape == (12, 2)
    for points in (np.full(2, 0.5), np.full((12, 2), 0.5)):
        np.testing.assert_array_equal(cdf_pools(FAMILY, nodes, AT, STORES, CODES, points), whole)
    with pytest.raises(StatisticsError, match="points have the shape"):
        cdf_pools(FAMILY, nodes, AT, STORES, CODES, np.full(12, 0.5))


@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order"])
def test_other_methods_have_the_same_shapes(uncertainty):
    nodes = nodes_of(uncertainty)
    found = update_pools(FAMILY, nodes, AT, STORES, CODES, quantiles=LEVELS)
    assert found.mean.shape == found.sd.shape == found.prior_mean.shape == (12, 2)
    assert found.quantiles.shape == (12, 2, 3)
    assert np.linalg.eigvalsh(covariance_sampled(FAMILY, nodes, AT, STORES, CODES)).min() > 0
    below = cdf_pools(FAMILY, nodes, AT, STORES, CODES, found.quantiles[:, :, 2])
    np.testing.assert_allclose(below, 0.975, atol=1e-9)
    if uncertainty == "first_order":
        covariance = covariance_sampled(FAMILY, nodes, AT, STORES, CODES)
        np.testing.assert_allclose(np.einsum("jtt->jt", covariance), found.sd**2, rtol=1e-12)


def test_auto_looks_at_every_log_sd():
    few = nodes_of("auto")
    assert few.method.tolist() == ["integrated"]
    # Two pools: one is as above, the other has half of its stores.
    halves = nodes_of("first_order", np.arange(12) % 2)
    assert halves.method.tolist() == ["first_order", "first_order"]
    assert (halves.curvature < few.curvature[0]).all()
