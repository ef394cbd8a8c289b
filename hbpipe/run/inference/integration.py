"""The posteriors of pools' hyperparameters, on workers where each pool is work of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hbpipe.errors import FitError
from hbpipe.model.fit import PoolFits
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.run.engine import Engine
from hbpipe.run.inference.shards import ShardedRows


def integrate_on(
    engine: Engine, fits: PoolFits, labels: Sequence[str], uncertainty: str
) -> AnyNodes:
    """Integrate over the hyperparameters of all pools; the same bits as ``integrate_pools``.

    Most families integrate all pools in one pass, here. Those with more hyperparameters sample
    each pool by itself: a task for each. Where rows lie on workers they stay there, and what is
    summed over them is asked for from here.

    Parameters
    ----------
    labels
        Names of the pools, for errors.
    """
    sampled = fits.model.sampling is not None and fits.model.geometry is None
    rows_away = isinstance(getattr(fits.sketch, "rows", None), ShardedRows)
    if uncertainty == "plug_in" or not sampled or rows_away:
        return integrate_pools(fits, uncertainty=uncertainty)
    parts = engine.gather(
        [
            engine.submit(
                integrate_pool,
                fits.select([pool]),
                label,
                uncertainty,
                label=f"integral of {label}",
            )
            for pool, label in enumerate(labels)
        ]
    )
    return SampledNodes(fits.family, tuple(part.pools[0] for part in parts))


def integrate_pool(fits: PoolFits, label: str, uncertainty: str) -> AnyNodes:
    """Integrate one pool of a family that samples."""
    try:
        return integrate_pools(fits, uncertainty=uncertainty)
    except FitError as error:
        error.where["pool"] = label  # it knows the only one as number 0
        raise
