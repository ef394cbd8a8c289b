"""What the fit of a mixture gives: the prior that each pool chose, and what spoke for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.fits import PoolFits


@dataclass(frozen=True, eq=False, kw_only=True)
class MixtureFits(PoolFits):
    """The fits of ``G`` pools, each with one law or with several.

    Parameters
    ----------
    single
        The fits of the same pools with a single law.
    several
        (G,) whether the pool's prior is a mixture. Where it is not, both components are the
        single law, and all numbers of the fit are those of ``single``.
    bic_single, bic_mixture
        (G,) the criterion of the choice, the larger the better.
    """

    single: PoolFits
    several: NDArray[np.bool_]
    bic_single: Array
    bic_mixture: Array

    def single_law(self) -> PoolFits:
        """Return the fits of the same stores with a single law."""
        return self.single

    def select(self, pools: Any) -> MixtureFits:
        """Return the fits of some pools, in ascending order."""
        found = super().select(pools)
        assert isinstance(found, MixtureFits)
        return replace(found, single=self.single.select(pools))

    @property
    def chosen(self) -> list[str]:
        """The prior of each pool in a word."""
        return [self.prior_form if several else "single" for several in self.several]
