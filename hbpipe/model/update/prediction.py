"""The next observation of the stores of one pool, whatever stands for its hyperparameters."""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array, Description, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.update.pools import is_plain
from hbpipe.model.update.predictive import mix_predictive
from hbpipe.model.update.sampled_update import predict_sampled
from hbpipe.model.update.shrink import pool_posterior


def predict_pool(
    family: Family,
    nodes: AnyNodes,
    at: Hyperparameters,
    statistics: Statistics,
    amount: Array,
    levels: Array,
) -> Description:
    """Predict the next observation of the stores of one pool; see :meth:`Posterior.predict`.

    ``nodes`` are those of the pool, ``at`` its point estimates, name -> (J, ...).
    """
    law = family.update(statistics, at)
    if is_plain(nodes, np.zeros(1, np.int64)).all():
        return family.predict(law, amount, at, levels)
    if isinstance(nodes, SampledNodes):
        return predict_sampled(family, nodes, statistics, amount, levels)
    size, raw = geometry_of(family).sizes(statistics)
    mixture, noise = pool_posterior(nodes, size, raw)
    parts = dict(zip(law, mixture.parameters, strict=True))
    known = {"sigma": np.sqrt(noise)}
    return mix_predictive(family, parts, mixture.weight, amount, known, levels)
