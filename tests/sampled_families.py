"""Families of the scalar scheme as families with ``sampling``: their grids are the known answer."""

from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.families import get_family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of
from hbpipe.model.hyperpriors import compile_hyperprior
from hbpipe.model.integrate import start_point
from hbpipe.model.integration.sampling import Conditional, Predictive, Sampling
from hbpipe.model.integration.target import Target
from hbpipe.model.pooling import no_pooling
from hbpipe.model.update.predictive import mix_predictive
from hbpipe.model.update.shrink import NodeRows, store_moments


@dataclass(frozen=True)
class GeometryTarget:
    """The target of a scalar family; the location of normal ones is integrated analytically."""

    target: Target
    at: np.ndarray

    @property
    def free(self):
        analytic = self.target.geometry.location_is_analytic
        return [place for place in self.target.free if not (analytic and place == LOCATION)]

    @property
    def names(self):
        words = {LOCATION: "location", SPREAD: "log_tau", NOISE: "log_sigma"}
        return tuple(words[place] for place in self.free)

    @property
    def spreads(self):
        return tuple(i for i, place in enumerate(self.free) if place == SPREAD)

    @property
    def start(self):
        return self._scale() * self.at[self.free]

    def _scale(self):
        """Log A is twice the log of a ratio of sds."""
        return np.array([0.5 if place == SPREAD else 1.0 for place in self.free])

    def _evaluated(self, points):
        many = self.target.repeat(len(points))
        full = np.tile(self.at, (len(points), 1))
        full[:, self.free] = points / self._scale()
        full = many.complete(full)
        return many, full, many.evaluate(full)

    def log_density(self, points):
        many, _, jet = self._evaluated(points)
        value = jet.value
        if many.geometry.location_is_analytic and LOCATION in many.free:
            variance = -1.0 / jet.hessian[:, LOCATION, LOCATION]
            value = value + 0.5 * jet.gradient[:, LOCATION] ** 2 * variance
            value = value + 0.5 * np.log(2.0 * np.pi * variance)
        return value

    def nodes(self, points):
        many, full, jet = self._evaluated(points)
        location, variance = full[:, LOCATION], np.zeros(len(full))
        curved = jet.hessian[:, LOCATION, LOCATION] < 0
        if many.geometry.location_is_analytic and LOCATION in many.free and curved.all():
            variance = -1.0 / jet.hessian[:, LOCATION, LOCATION]
            location = location + jet.gradient[:, LOCATION] * variance
        noise = np.exp(2.0 * full[:, NOISE]) if many.geometry.has_noise else np.ones(len(full))
        return {
            "spread": np.exp(full[:, SPREAD]),
            "location": many.geometry.mean(location),
            "location_variance": variance,
            "noise": noise,
        }


def as_sampled(name, *, representatives=None):
    """Give the family without its geometry, and with ``sampling`` in its place."""
    family, geometry = get_family(name), geometry_of(name)

    def target(sketch, hyperprior, held, coordinates):
        fixed = frozenset(
            axis.hyperparameter
            for axis, value in zip(family.coordinates, held, strict=True)
            if not np.isnan(value)
        )
        prior = compile_hyperprior(family, hyperprior, sketch, held=fixed)
        found = Target(family, geometry, sketch, prior, held[None])
        return GeometryTarget(found, start_point(found, coordinates[None])[0])

    def conditional(statistics, nodes):
        size, raw = geometry.sizes(statistics)
        zero = np.zeros((1, 1))
        rows = NodeRows(
            weight=np.full((1, len(nodes["spread"])), 1.0),
            spread_variance=zero,
            covariance=zero,
            **{key: values[None] for key, values in nodes.items()},
        )
        found = store_moments(geometry, rows, size, raw)
        own = size[:, None] * rows.spread
        parameters = geometry.law.from_moments(found.node_mean, found.node_variance)
        return Conditional(
            law=geometry.law,
            parameters=tuple(values[:, :, None] for values in parameters),
            mean=found.node_mean[:, :, None],
            variance=found.node_variance[:, :, None],
            weight=(own / (1.0 + own))[:, :, None],
            prior_mean=np.broadcast_to(rows.location, own.shape)[:, :, None],
        )

    def predict(conditional, nodes, exposure):
        names = list(family.prior(family.from_coordinates(np.full(len(family.coordinates), 0.5))))
        parts = dict(zip(names, (p[:, :, 0] for p in conditional.parameters), strict=True))
        known = {"sigma": np.sqrt(nodes["noise"])[None]}
        each = family.predict(parts, exposure[:, None], known, np.empty(0))

        def mixed(weight, levels):
            return mix_predictive(family, parts, weight[None], exposure, known, levels)

        return Predictive(each.mean, np.square(each.sd), mixed)

    sampling = Sampling(
        target=target,
        conditional=conditional,
        predict=predict,
        integrable=lambda sketch, held: geometry.integrable(sketch),
        representatives=representatives,
    )
    return replace(
        family,
        name=f"sampled_{name}",
        geometry=None,
        sampling=sampling,
        raw=family.raw_estimates,
        raw_sd=lambda statistics, at: no_pooling(family, statistics, at)[1],
    )
