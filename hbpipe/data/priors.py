"""How a metric's θ varies over units: the key ``prior``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hbpipe.data.spelling import nearest
from hbpipe.errors import FitError

#: What another prior than a single one does not go with.
_ALONE = ("covariates", "fixed", "hyperprior", "nest")


def parse_prior(family: str, raw: Mapping[str, Any]) -> str:
    """Parse the key ``prior`` of a metric: ``single``, or a word for a mixture of laws."""
    from hbpipe.model.families import PRIORS, get_family  # brings scipy: only as settings are read

    found = raw.get("prior", "single")
    if found not in PRIORS:
        raise ValueError(f"prior: unknown {found!r}{nearest(str(found), PRIORS)}")
    if found == "single":
        return "single"
    if together := [key for key in _ALONE if raw.get(key)]:
        raise ValueError(f"prior: {found} does not go with {', '.join(together)}")
    try:
        get_family(family, prior=found)
    except FitError as error:
        raise ValueError(f"prior: {error}") from None
    return str(found)
