"""Hierarchical Bayesian store metrics: a nightly pipeline, and the library inside it.

>>> import hbpipe
>>> stores = {"successes": [3, 20, 11], "trials": [30, 200, 80]}
>>> fit = hbpipe.fit("beta_binomial", stores)
>>> stores_posterior = hbpipe.posterior(fit, stores)

``effects``, ``fit``, ``posterior``, ``read`` and ``to_xarray`` are imported when they are first
used, so that importing ``hbpipe`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hbpipe.model.experiment.effects import effects
    from hbpipe.model.fit import fit
    from hbpipe.model.posterior import posterior
    from hbpipe.report.datatree import to_xarray
    from hbpipe.run.releases import read

    __version__: str

__all__ = ["__version__", "effects", "fit", "posterior", "read", "to_xarray"]

_HOMES = {
    "effects": "hbpipe.model.experiment.effects",
    "fit": "hbpipe.model.fit",
    "posterior": "hbpipe.model.posterior",
    "read": "hbpipe.run.releases",
    "to_xarray": "hbpipe.report.datatree",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hbpipe")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hbpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
