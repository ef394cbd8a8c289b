"""The bounded Newton walk on functions whose maximum is known."""

import numpy as np
import pytest

from hbpipe.model.numerics.optimise import TOLERANCE, active_bounds, maximise

FREE = np.array([-np.inf, -np.inf]), np.array([np.inf, np.inf])


def quadratic(matrix, centre):
    """−½ (x − c)' A (x − c), the same in every pool."""

    def objective(x, pools):
        d = x - centre
        gradient = -d @ matrix
        hessian = np.broadcast_to(-matrix, (len(x), *matrix.shape))
        return 0.5 * np.sum(d * gradient, axis=1), gradient, hessian

    return objective


def log_gamma_density(shape, rate):
    """a log x − b x along both axes: convex nowhere, but far from quadratic."""

    def objective(x, pools):
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.sum(shape * np.log(x) - rate * x, axis=1)
            gradient = shape / x - rate
            hessian = np.einsum("gi,ij->gij", -shape / x**2, np.eye(2))
        return value, gradient, hessian

    return objective


def climb(objective, start, lower=FREE[0], upper=FREE[1], scale=1.0, free=None):
    start = np.atleast_2d(np.asarray(start, float))
    free = np.ones(start.shape, bool) if free is None else free
    return maximise(
        objective, start, np.asarray(lower), np.asarray(upper), np.full(start.shape, scale), free
    )


def test_quadratic_takes_one_step():
    matrix = np.array([[3.0, 1.0], [1.0, 2.0]])
    found = climb(quadratic(matrix, [1.0, -2.0]), [0.0, 0.0])
    np.testing.assert_allclose(found.coordinates, [[1.0, -2.0]], atol=1e-12)
    assert found.converged.all()
    assert found.rounds[0] == 1


def test_active_bound_holds_and_the_rest_is_conditional():
    matrix = np.array([[3.0, 1.0], [1.0, 2.0]])
    found = climb(quadratic(matrix, [1.0, -2.0]), [0.5, 0.5], lower=[-np.inf, 0.0])
    # With x₁ = 0 the first coordinate maximises −½(3 d₀² + 2·d₀·2): d₀ = −2/3.
    np.testing.assert_allclose(found.coordinates, [[1.0 - 2.0 / 3.0, 0.0]], atol=1e-12)
    np.testing.assert_array_equal(found.active, [[0, -1]])
    assert found.converged.all()
    assert found.gradient[0, 1] < 0


def test_upper_bound_is_reported_as_such():
    found = climb(quadratic(np.eye(2), [5.0, 0.0]), [0.0, 0.0], upper=[1.0, np.inf])
    np.testing.assert_array_equal(found.active, [[1, 0]])
    np.testing.assert_array_equal(found.coordinates, [[1.0, 0.0]])


def test_leaves_a_bound_that_does_not_hold_it():
    found = climb(quadratic(np.eye(2), [2.0, 3.0]), [0.0, 0.0], lower=[0.0, 0.0])
    np.testing.assert_allclose(found.coordinates, [[2.0, 3.0]])
    assert not found.active.any()


def test_held_coordinates_stay():
    matrix = np.array([[3.0, 1.0], [1.0, 2.0]])
    free = np.array([[True, False]])
    found = climb(quadratic(matrix, [1.0, -2.0]), [0.0, 1.0], free=free)
    np.testing.assert_allclose(found.coordinates, [[0.0, 1.0]], atol=1e-12)
    assert found.converged.all()


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_the_walk_is_the_same_in_any_units(unit):
    shape, rate = np.array([2.0, 7.0]), np.array([0.5, 3.0])
    plain = climb(log_gamma_density(shape, rate), [20.0, 0.01], lower=[0.0, 0.0])
    scaled = climb(
        log_gamma_density(shape, rate / unit),
        [20.0 * unit, 0.01 * unit],
        lower=[0.0, 0.0],
        scale=unit,
    )
    np.testing.assert_allclose(scaled.coordinates, unit * plain.coordinates, rtol=1e-10)
    np.testing.assert_array_equal(scaled.rounds, plain.rounds)
    np.testing.assert_allclose(plain.coordinates, [shape / rate], rtol=1e-6)


def test_a_convex_region_is_climbed_not_descended():
    # cos has a minimum at π; its Newton step from there would go back to it.
    def objective(x, pools):
        return (
            np.cos(x).sum(axis=1),
            -np.sin(x),
            np.einsum("gi,ij->gij", -np.cos(x), np.eye(2)),
        )

    found = climb(objective, [np.pi - 0.2, np.pi + 0.4])
    np.testing.assert_allclose(found.value, 2.0)
    assert found.converged.all()


def test_values_never_fall():
    seen = []
    inner = log_gamma_density(np.array([2.0, 7.0]), np.array([0.5, 3.0]))

    def objective(x, pools):
        result = inner(x, pools)
        seen.append(result[0][0])
        return result

    found = climb(objective, [1e-3, 40.0], lower=[0.0, 0.0])
    accepted = [seen[0]]
    for value in seen[1:]:
        if value > accepted[-1]:
            accepted.append(value)
    assert found.value[0] >= max(seen) - 1e-12 * abs(max(seen))
    assert len(accepted) > 3


def test_no_maximum_is_not_called_one():
    def objective(x, pools):
        return x.sum(axis=1), np.ones_like(x), np.zeros((len(x), 2, 2))

    found = climb(objective, [0.0, 0.0])
    assert not found.converged.any()


def test_flat_direction_is_not_called_a_maximum():
    found = climb(quadratic(np.array([[1.0, 0.0], [0.0, 0.0]]), [1.0, 0.0]), [0.0, 0.0])
    assert not found.converged.any()


def test_pools_walk_alone():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(6, 2)) ** 2
    shape = 1.0 + 5 * centres

    def objective(x, pools):
        inner = log_gamma_density(shape[pools], np.ones((len(pools), 2)))
        return inner(x, pools)

    starts = rng.uniform(0.01, 30.0, (6, 2))
    together = climb(objective, starts, lower=[0.0, 0.0])
    assert together.converged.all()
    assert np.all(together.gradient_norm <= TOLERANCE)
    for g in range(6):
        alone = climb(
            lambda x, pools, g=g: objective(x, np.full(len(x), g)), starts[g], lower=[0.0, 0.0]
        )
        np.testing.assert_array_equal(alone.coordinates[0], together.coordinates[g])
        assert alone.rounds[0] == together.rounds[g]


def test_active_bounds_need_both_the_place_and_the_gradient():
    x = np.array([[0.0, 0.0, 1.0, 1.0, 0.5]])
    gradient = np.array([[-1.0, 1.0, 1.0, -1.0, -1.0]])
    np.testing.assert_array_equal(active_bounds(x, gradient, 0.0, 1.0), [[-1, 0, 1, 0, 0]])
