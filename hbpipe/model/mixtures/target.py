"""The posterior of the five hyperparameters of a mixture of two conjugate laws.

Working variables, each over the whole line: for each component ½ log A, the log sd of θ in units of
one observation's, and z = (l − l̂)/√((A + 1/n̄)/(V J w)) for its location l on the family's line,
with l̂, w and V at the estimate, and J stores of median size n̄; and logit 2w of the proportion w of
the second component, which is the smaller one: so the exchanged labels are not counted twice. In z,
the non-centred form of Papaspiliopoulos, Roberts and Sköld (2007), a component of few stores is no
funnel, which no law of fixed scales covers.

Hyperpriors are proper for both components, for data may leave the second to itself: a location is
normal about that of a single law, with the sd below (as Richardson and Green 1997, *JRSS B* 59,
take it from the data's range); a spread has the default of a single law, wide uniform shrinkage
p(A) = c/(c + A)², with c ten over the median size; w is uniform on (0, ½).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, SPREAD, geometry_of
from hbpipe.model.hyperpriors import WIDTH
from hbpipe.model.mixtures.coordinates import COMPONENTS, WEIGHT, TwoComponents
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.mixtures.likelihood import mix
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.mixtures.stores import prior_at
from hbpipe.model.numerics.jets import variables

WORKING = (
    *("standard_location[0]", "log_sd[0]", "standard_location[1]", "log_sd[1]"),
    "logit_proportion",
)
#: Sd of a location on a logit or logarithmic line, and in sds of estimates on a plain one.
_LINE_SD, _ESTIMATE_SDS = 2.0, 5.0
#: Log spreads of a start, beside that of a typical store.
_LEAST, _MOST = -10.0, 30.0
#: A location farther out on a logit or logarithmic line is as good as infinite; a mean of 1 less
#: 1e-13 is still no 1.
_FARTHEST = 30.0
#: A proportion of a start is at least this.
_SMALLEST = 1e-3
#: Log A of nodes, from that of the hyperprior's width: it holds 1e-11 of its mass beyond.
_LEAST_SPREAD, _MOST_SPREAD = -45.0, 25.0


@dataclass(frozen=True)
class MixtureTarget:
    """A :class:`hbpipe.model.integration.sampling.HyperTarget`.

    Parameters
    ----------
    base
        The family of the components.
    sketch
        Of the one pool.
    held, estimate
        (5,) coordinates that are known, NaN where free, and the point estimate.
    centre
        The location of a single law, on its line.
    """

    base: Family
    sketch: MixtureSketch
    held: Array
    estimate: Array
    centre: float

    @property
    def free(self) -> list[int]:
        """Numbers of the working variables that are not held."""
        return np.flatnonzero(np.isnan(self.held)).tolist()

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        return tuple(WORKING[place] for place in self.free)

    @property
    def spreads(self) -> tuple[int, ...]:
        """Those that are log sds between stores, of each component."""
        return tuple(i for i, place in enumerate(self.free) if place in (1, 3))

    @property
    def start(self) -> Array:
        """The point estimate; what is on a bound is moved inside."""
        return self._working[self.free]

    @cached_property
    def _working(self) -> Array:
        """All working variables at the estimate, and at the values that are held, (5,)."""
        geometry = geometry_of(self.base)
        at = np.where(np.isnan(self.held), self.estimate, self.held)
        own = TwoComponents(self.base).of_components(at)
        log_spread = self._log_spread(own)
        typical = -float(np.log(geometry.median_size(self.sketch.whole)[0]))
        inside = np.clip(log_spread, typical + _LEAST, typical + _MOST)
        second = np.clip(at[WEIGHT], _SMALLEST, 0.5 - _SMALLEST)
        return np.array([0.0, 0.5 * inside[0], 0.0, 0.5 * inside[1], _logit(second)])

    @cached_property
    def _lines(self) -> Array:
        """Estimated, or held, locations on the line, (2,)."""
        at = np.where(np.isnan(self.held), self.estimate, self.held)
        return self._on_line(TwoComponents(self.base).of_components(at)[:, LOCATION])

    def _on_line(self, line: Array) -> Array:
        if geometry_of(self.base).location_is_analytic:
            return line
        return np.clip(line, -_FARTHEST, _FARTHEST)

    def _widths(self, log_spread: Array) -> Array:
        """About the sds of the locations given the spreads, (S, 2)."""
        geometry = geometry_of(self.base)
        unit = geometry.slope(np.asarray(geometry.mean(self._lines)))
        second = 0.5 * special.expit(self._working[WEIGHT])
        stores = float(self.sketch.n_groups[0]) * np.array([1.0 - second, second])
        noise = 1.0 / float(geometry.median_size(self.sketch.whole)[0])
        return np.sqrt((np.exp(log_spread) + noise) / (unit * np.maximum(stores, 1.0)))

    def _log_spread(self, own: Array) -> Array:
        """Log A of coordinates of the base family, (..., D)."""
        geometry = geometry_of(self.base)
        flat = own.reshape(-1, own.shape[-1])
        with np.errstate(divide="ignore"):
            found = geometry.log_spread(flat[:, SPREAD], variables(flat)).value
        return np.asarray(found.reshape(own.shape[:-1]))

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        line, log_spread, proportion = self._components(points)
        stores = self.sketch.rows["stores"]
        own = {name: values[:, None] for name, values in self.sketch.statistics.items()}
        prior = prior_at(self.base, line[:, None], np.exp(log_spread)[:, None])
        each, _ = mix(log_evidence(self.base, own, prior), proportion[:, None])
        likelihood = np.sum(stores * (each + self.sketch.log_base_measure), axis=1)
        return np.asarray(likelihood + self._log_prior(points, line, log_spread))

    def _components(self, points: Array) -> tuple[Array, Array, Array]:
        """Locations on their line, log spreads and proportions, (S, 2) each."""
        all_of = np.tile(self._working, (len(points), 1))
        all_of[:, self.free] = points
        second = 0.5 * special.expit(all_of[:, WEIGHT])
        if not np.isnan(self.held[WEIGHT]):
            second = np.full(len(points), self.held[WEIGHT])
        log_spread = 2.0 * all_of[:, 1:WEIGHT:2]
        line = self._on_line(self._lines + all_of[:, 0:WEIGHT:2] * self._widths(log_spread))
        return line, log_spread, np.stack([1.0 - second, second], axis=1)

    def _log_prior(self, points: Array, line: Array, log_spread: Array) -> Array:
        """Log density of the free working variables, (S,)."""
        value, log_c = np.zeros(len(points)), self._log_shrinkage
        widths = self._widths(log_spread)
        for k in range(COMPONENTS):
            if 2 * k in self.free:
                z = (line[:, k] - self.centre) / self._line_sd
                value -= 0.5 * z * z + np.log(self._line_sd * np.sqrt(2.0 * np.pi))
                value += np.log(widths[:, k])
            if 2 * k + 1 in self.free:
                # c/(c + A)² and dA/dx = 2 A, in logarithms.
                u = log_spread[:, k] - log_c
                value += np.log(2.0) + u - 2.0 * np.logaddexp(0.0, u)
        if len(WORKING) - 1 in self.free:
            v = points[:, -1]
            value -= np.logaddexp(0.0, v) + np.logaddexp(0.0, -v)
        return value

    @cached_property
    def _log_shrinkage(self) -> float:
        median = geometry_of(self.base).median_size(self.sketch.whole)[0]
        return float(np.log(WIDTH / median))

    @cached_property
    def _line_sd(self) -> float:
        if geometry_of(self.base).location_is_analytic:
            return float(_ESTIMATE_SDS * self.base.scale(self.sketch.whole)[0, LOCATION])
        return _LINE_SD

    def nodes(self, points: Array) -> dict[str, Array]:
        """Prior means ``mu``, ``spread`` and ``proportion`` of the components, (S, 2) each."""
        line, log_spread, proportion = self._components(points)
        # Beyond these a store of successes alone has a mean that rounds to 1, and no law.
        within = self._log_shrinkage + np.array([_LEAST_SPREAD, _MOST_SPREAD])
        spread = np.exp(np.clip(log_spread, *within))
        return {
            **prior_at(self.base, line, spread),
            "mu": np.asarray(geometry_of(self.base).mean(line)),
            "spread": spread,
            "proportion": proportion,
        }


def _logit(second: float) -> float:
    return float(special.logit(2.0 * second))


def mixture_target(
    base: Family, sketch: MixtureSketch, hyperprior: object, held: Array, estimate: Array
) -> MixtureTarget:
    """Return the target of the only pool of a sketch.

    Raises
    ------
    FitError
        For a hyperprior: a mixture has its own.
    """
    if hyperprior is not None:
        raise FitError(
            f"a mixture of priors takes no hyperprior, found {hyperprior!r}",
            where={"family": base.name},
            expected="None, for proper weak ones of all its hyperparameters",
            remedy="leave the hyperprior out, or use a single prior",
        )
    centre = float(base.start(sketch.whole)[0, LOCATION])
    return MixtureTarget(base, sketch, held, estimate, centre)
