"""One formula, two libraries: numpy and scipy for grids, jax for a sampler's gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from hbpipe.errors import ConfigError


@dataclass(frozen=True)
class Library:
    """The functions of numpy, and those of ``scipy.special``, of one library."""

    np: Any
    special: Any


SCIPY = Library(np, scipy.special)


def jax_library() -> Library:
    """Return jax's.

    Raises
    ------
    ConfigError
        Where it is not installed.
    """
    require_sampler()
    import jax.numpy
    import jax.scipy.special

    return Library(jax.numpy, jax.scipy.special)


def require_sampler() -> None:
    """Make sure that numpyro and jax are there.

    Raises
    ------
    ConfigError
        With the remedy, where they are not.
    """
    try:
        import numpyro.infer  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the sampler is not installed: {error}",
            expected="numpyro, for full Bayes by NUTS",
            remedy="pip install 'hbpipe[nuts]'; families with two hyperparameters can be audited "
            "without it, by quadrature",
        ) from None
