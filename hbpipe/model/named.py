"""The named hyperparameters of a family as formulas: what hyperpriors are densities of.

A family on a grid says this in its :class:`hbpipe.model.geometry.Geometry`; one that is integrated
by sampling says it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hbpipe.model.densities import Term
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import Geometry, Joint, Named, Point, geometry_of
from hbpipe.model.numerics.jets import Jet


@dataclass(frozen=True)
class NamedSpace:
    """Names of hyperparameters, their values and their defaults; fields as in ``Geometry``.

    ``location_has_any_sign`` asks for a density of the location on the whole line.
    """

    median_size: Callable[[Any], Array]
    named: Callable[[Point], Named]
    named_at: Callable[[Point], Named]
    log_jacobian: Mapping[str, Callable[[Point], Jet]]
    parametrisations: tuple[tuple[str, ...], ...]
    defaults: Mapping[str, Callable[[Array], tuple[Term, ...]]]
    location_has_any_sign: bool
    joint: Mapping[str, Joint] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every named parameter that a hyperprior may be about, in alphabetical order."""
        return tuple(sorted({name for names in self.parametrisations for name in names}))


#: What hyperpriors need of a family.
Space: TypeAlias = Geometry | NamedSpace


def space_of(family: str | Family) -> Space:
    """Return what hyperpriors need of a family; FitError if it has no hyperpriors."""
    from hbpipe.model.families import get_family  # families import this module

    model = get_family(family) if isinstance(family, str) else family
    return geometry_of(model) if model.named is None else model.named
