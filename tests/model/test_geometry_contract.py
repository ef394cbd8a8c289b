"""What every family with a geometry promises of its integrated posteriors; none is named here."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model import families
from hbpipe.model.families import FAMILIES
from hbpipe.model.family import Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.geometry import SPREAD, geometry_of
from hbpipe.model.hyperpriors import compile_hyperprior
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.numerics import jets
from hbpipe.model.update import pools as pools_module
from hbpipe.model.update.pools import cdf_pools, update_pools

INTEGRABLE = {name: family for name, family in FAMILIES.items() if family.geometry is not None}
every_integrable = pytest.mark.parametrize("family", INTEGRABLE.values(), ids=list(INTEGRABLE))
LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)
#: Three pools of a few stores; the first store of each has no data.
STORES = 14
POOLS = np.arange(3 * STORES) // STORES


def truth(family: Family) -> dict[str, Any]:
    point = np.array([0.1 if axis.spread else 0.3 for axis in family.coordinates])
    return family.from_coordinates(point)


def simulated(family: Family, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, len(POOLS))
    sizes[::STORES] = 0
    columns, codes, _ = family.simulate(rng, truth(family), len(POOLS), sizes)
    return family.summarise(columns, codes, len(POOLS))


def update(family: Family, statistics: Any, *, uncertainty: str = "integrated", rows: Any = ...):
    """Update some rows with the nodes of all of them."""
    fits = fit_pools(family, family.compress(statistics, POOLS, 3))
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    part = {name: values[rows] for name, values in statistics.items()}
    return update_pools(
        family, nodes, fits.hyperparameters, part, POOLS[rows], quantiles=LEVELS, exposure=1.0
    )


def columns_of(found: Any) -> dict[str, Any]:
    return {name: values for name, values in vars(found).items() if name != "method"}


def inner_working(family: Family) -> np.ndarray:
    """A point of the working variables, (1, V)."""
    return np.array([[0.3, -1.1, 0.2][: geometry_of(family).n_working]])


@every_integrable
def test_integrated_posteriors_are_finite_ordered_and_wider_than_plug_in(family: Family) -> None:
    found = update(family, simulated(family))
    assert set(found.method) == {"integrated"}
    for values in columns_of(found).values():
        assert np.isfinite(values).all()
    assert np.all(np.diff(found.quantiles, axis=1) > 0)
    assert np.all((found.weight >= 0) & (found.weight < 1))
    assert np.mean(found.sd) > np.mean(found.sd_plug_in)
    # A mixture is more than a wider law with the same limits: they enclose its mean.
    assert np.all((found.quantiles[:, 0] < found.mean) & (found.mean < found.quantiles[:, -1]))


@every_integrable
def test_a_store_without_data_has_the_law_of_a_new_store(family: Family) -> None:
    statistics = simulated(family)
    found = update(family, statistics)
    silent = np.arange(0, len(POOLS), STORES)
    assert np.all(found.weight[silent] == 0)
    np.testing.assert_allclose(found.mean[silent], found.prior_mean[silent], rtol=1e-12)
    # Its law is the mixture of the priors at all nodes.
    fits = fit_pools(family, family.compress(statistics, POOLS, 3))
    nodes = integrate_pools(fits, uncertainty="integrated")
    for pool, store in enumerate(silent):
        priors, weight = priors_at_nodes(family, nodes.select(np.array([pool])))
        below = [weight @ priors.cdf(limit) for limit in found.quantiles[store]]
        # Thin nodes may move a cdf, each spread's by 5e-6.
        np.testing.assert_allclose(below, LEVELS, rtol=0, atol=4e-5)
        np.testing.assert_allclose(weight @ priors.mean, found.mean[store], rtol=1e-9)


def priors_at_nodes(family: Family, nodes: Any) -> tuple[Any, np.ndarray]:
    """Priors at the nodes of one pool, from their mean m and Var θ = A E[V(m)]/(1 − v₂ A)."""
    kept = nodes.weight[0] > 1e-10 * nodes.weight.max()
    spread, mean, left = (
        values[0][kept] for values in (nodes.spread, nodes.location, nodes.location_variance)
    )
    v0, v1, v2 = geometry_of(family).variance
    expected = v0 * nodes.noise[0][kept] + v1 * mean + v2 * (mean**2 + left)
    law = geometry_of(family).law
    parameters = law.from_moments(mean, spread * expected / (1 - v2 * spread) + left)
    weight = nodes.weight[0][kept]
    return law.describe(*parameters, [0.5]), weight / weight.sum()


@every_integrable
def test_blocks_and_shards_give_the_same_bits(family: Family, monkeypatch) -> None:
    statistics = simulated(family)
    whole = columns_of(update(family, statistics))
    for rows in (np.arange(0, len(POOLS), 3), np.array([STORES + 4])):
        for name, values in columns_of(update(family, statistics, rows=rows)).items():
            np.testing.assert_array_equal(values, whole[name][rows], err_msg=name)
    monkeypatch.setattr(pools_module, "_BLOCK", 1)
    for name, values in columns_of(update(family, statistics)).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


@every_integrable
@pytest.mark.parametrize("uncertainty", ["first_order", "integrated"])
def test_the_cdf_inverts_the_quantiles(family: Family, uncertainty: str) -> None:
    statistics = simulated(family)
    fits = fit_pools(family, family.compress(statistics, POOLS, 3))
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    found = update(family, statistics, uncertainty=uncertainty)
    for column, level in enumerate(LEVELS):
        below = cdf_pools(
            family, nodes, fits.hyperparameters, statistics, POOLS, found.quantiles[:, column]
        )
        np.testing.assert_allclose(below, level, atol=1e-7)


@every_integrable
def test_the_default_hyperprior_is_a_density_of_the_first_parametrisation(family: Family) -> None:
    statistics = simulated(family)
    sketch = family.compress(statistics, POOLS, 3)
    prior = compile_hyperprior(family, None, sketch)
    assert prior.measure == geometry_of(family).parametrisations[0]
    point = np.repeat(inner_working(family), 3, axis=0)
    assert np.isfinite(prior.in_working(jets.variables(point)).value).all()
    # One store, or stores that are all alike, still have a proper posterior under it.
    one = {name: values[1:2] for name, values in statistics.items()}
    for few in (one, {name: np.repeat(values, 3) for name, values in one.items()}):
        stores = len(next(iter(few.values())))
        fits = fit_pools(family, family.compress(few, np.zeros(stores, np.int64), 1))
        nodes = integrate_pools(fits, uncertainty="integrated")
        assert nodes.method.tolist() == ["integrated"]
        assert np.isfinite(nodes.spread).all()


@every_integrable
def test_coordinates_and_names_agree_with_the_familys_own(family: Family) -> None:
    working = jets.variables(inner_working(family))
    at = geometry_of(family).coordinates(working)
    coordinates = np.array([[jet.value[0] for jet in at]])
    expected = family.from_coordinates(coordinates)
    there = geometry_of(family).named(working)
    again = geometry_of(family).named_at(jets.variables(coordinates))
    for name, values in expected.items():
        if name in there:
            np.testing.assert_allclose(there[name].value, values, rtol=1e-10, err_msg=name)
            np.testing.assert_allclose(again[name].value, values, rtol=1e-10, err_msg=name)
    assert set(geometry_of(family).names) <= set(there)
    (spread_axis,) = family.spreads
    held = coordinates[:, spread_axis]
    spread = geometry_of(family).log_spread(held, working)
    np.testing.assert_allclose(spread.value, inner_working(family)[:, 1], rtol=1e-10)


@every_integrable
@pytest.mark.parametrize("shift", [-30.0, -3.0, 0.0, 4.0])
def test_a_likelihood_at_a_given_spread_is_the_likelihood_there(
    family: Family, shift: float
) -> None:
    geometry, sketch = geometry_of(family), family.compress(simulated(family), POOLS, 3)
    point = np.repeat(inner_working(family), 3, axis=0) + np.array([[0.0], [0.1], [-0.2]])
    point[:, SPREAD] += shift
    coordinates = geometry.coordinates(jets.variables(point))
    at = np.stack([jet.value for jet in coordinates], axis=1)
    expected = jets.chain(*family.log_marginal(sketch, at), coordinates)
    order = np.array([2, 0, 1, 1])
    given = geometry.given_spread(sketch, point[:, SPREAD]).select(order)
    value, gradient, hessian = given.derivatives(point[order])
    np.testing.assert_allclose(value, expected.value[order], rtol=1e-10)
    np.testing.assert_allclose(given.value(point[order]), expected.value[order], rtol=1e-10)
    others = [place for place in range(geometry.n_working) if place != SPREAD]
    slope, curvature = expected.gradient[order], expected.hessian[order]
    np.testing.assert_allclose(gradient[:, others], slope[:, others], rtol=1e-8, atol=1e-8)
    both = np.ix_(range(4), others, others)
    np.testing.assert_allclose(hessian[both], curvature[both], rtol=1e-8, atol=1e-8)


@every_integrable
def test_parts_of_the_jacobian_add_up_in_every_parametrisation(family: Family) -> None:
    working = jets.variables(inner_working(family))
    named = geometry_of(family).named(working)
    for names in geometry_of(family).parametrisations:
        slopes = np.array([named[name].gradient[0] for name in names])
        parts = [geometry_of(family).log_jacobian[name](working).value[0] for name in names]
        assert sum(parts) == pytest.approx(np.log(abs(np.linalg.det(slopes))), rel=1e-10)


@every_integrable
def test_sizes_are_those_of_the_data(family: Family) -> None:
    statistics = simulated(family)
    size, raw = geometry_of(family).sizes(statistics)
    silent = np.arange(len(POOLS)) % STORES == 0
    assert np.all(size[silent] == 0)
    assert np.all(raw[silent] == 0)
    assert np.all(size[~silent] > 0)
    median = geometry_of(family).median_size(family.compress(statistics, POOLS, 4))
    for pool in range(3):
        here = np.sort(size[(pool == POOLS) & ~silent])
        assert median[pool] == pytest.approx(here[(len(here) - 1) // 2], rel=1e-12)
    assert median[3] == 1.0


@pytest.fixture(params=INTEGRABLE)
def copied(request, tmp_path: Path, monkeypatch):
    """A family and the name of its copy: one new file on the path of the families, no more."""
    name = request.param
    source = Path(families.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    line = f'    name="{name}",\n'
    assert source.count(line) == 1
    (tmp_path / "newcomer.py").write_text(source.replace(line, '    name="newcomer",\n'), "utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    monkeypatch.setattr(families, "FAMILIES", families.discover())
    yield FAMILIES[name], families.get_family("newcomer")
    del sys.modules["hbpipe.model.families.newcomer"]
    del families.newcomer


def test_adding_a_family_is_one_new_file(copied) -> None:
    original, copy = copied
    assert copy.update is not original.update
    statistics = {key: values[:STORES] for key, values in simulated(original).items()}
    expected, found = (hbpipe.fit(family.name, statistics) for family in (original, copy))
    assert found.family == "newcomer"
    assert found.hyperparameters == expected.hyperparameters
    left = hbpipe.posterior(expected, statistics, uncertainty="integrated")
    right = hbpipe.posterior(found, statistics, uncertainty="integrated")
    for name, values in left.items():
        np.testing.assert_array_equal(right[name], values, err_msg=name)
    ahead = right.predict(1.0)
    np.testing.assert_array_equal(ahead.quantiles, left.predict(1.0).quantiles)


def test_a_family_without_geometry_says_what_to_do(copied, monkeypatch) -> None:
    _, copy = copied
    bare = type(copy)(**{**vars(copy), "geometry": None})
    monkeypatch.setitem(families.FAMILIES, "newcomer", bare)
    fits = fit_pools(bare, bare.compress(simulated(bare), POOLS, 3))
    with pytest.raises(FitError, match="not defined for 'newcomer'") as caught:
        integrate_pools(fits)
    assert "describe" in str(caught.value)
    assert all(name in str(caught.value) for name in INTEGRABLE)
