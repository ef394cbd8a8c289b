"""The hyperprior of a fit, compiled in the way of its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Family


def compile_any(
    family: Family, sketch: Any, spec: Any, fixed: Mapping[str, Any], held: Array, *, needed: bool
) -> Any:
    """Compile the hyperprior; a wrong specification is an error of every fit that is given one."""
    if callable(spec) or (spec is None and not needed):
        return spec
    if family.hyperprior is not None:
        return family.hyperprior(spec, sketch, held[0])
    # What some pools hold and others do not has a density.
    free = {name for name, value in fixed.items() if np.isnan(np.asarray(value, float)).any()}
    names = frozenset(fixed) - free
    if family.covariates is not None:
        from hbpipe.model.covariates.prior import compile_prior

        return compile_prior(family, spec, sketch, held=names)
    from hbpipe.model.hyperpriors import compile_hyperprior

    return compile_hyperprior(family, spec, sketch, held=names)
