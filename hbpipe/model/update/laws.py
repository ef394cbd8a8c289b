"""The posterior laws of stores themselves, whichever way their hyperparameters were integrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.condense import condensed
from hbpipe.model.distributions.laws import GAMMA, NORMAL, STUDENT_T, Law, Parameters
from hbpipe.model.distributions.mixture import Mixture, few
from hbpipe.model.family import Codes, Family, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.integration.sampling import store_update
from hbpipe.model.update.sampled_stores import StorePosterior
from hbpipe.model.update.sampled_update import blocks_of_pools, n_terms, numbers_of_a_row
from hbpipe.model.update.shrink import NodeTable, mixture_table, store_mixture, store_moments

#: Numbers that one array of a block may hold.
_BLOCK = 2**19
#: Mixtures of more laws are condensed to thirty-two.
_MANY = 32
#: A Gamma law without any spread is given so much, relative to its mean squared.
_LEAST = 1e-15


class StoreLaws(Protocol):
    """Posteriors of stores at the nodes of their pools, for each of T terms."""

    def components(self) -> NDArray[np.int64]:
        """How many laws the posterior of a store is a mixture of, (G,)."""

    def mixtures(self, statistics: Statistics, pools: Codes) -> list[Mixture]:
        """Posteriors of J stores as mixtures of few laws, term by term."""

    def matched(self, statistics: Statistics, pools: Codes) -> list[tuple[Law, Parameters]]:
        """Laws of two parameters with the mean and variance of each store, (J,), term by term."""


def store_laws(family: Family, nodes: AnyNodes, statistics: Statistics) -> StoreLaws:
    """Return the posteriors of stores with such statistics."""
    if isinstance(nodes, SampledNodes):
        return _SampledLaws(family, nodes, n_terms(family, statistics))
    return _ConjugateLaws(family, mixture_table(nodes))


@dataclass(frozen=True)
class _ConjugateLaws:
    family: Family
    table: NodeTable

    def components(self) -> NDArray[np.int64]:
        return self.table.width

    def mixtures(self, statistics: Statistics, pools: Codes) -> list[Mixture]:
        found = [(rows, few(part)) for rows, part in self._mixtures(statistics, pools)]
        return [_joined(found)]

    def matched(self, statistics: Statistics, pools: Codes) -> list[tuple[Law, Parameters]]:
        law, first, second = (
            geometry_of(self.family).law,
            np.empty(len(pools)),
            np.empty(len(pools)),
        )
        for rows, mixture in self._mixtures(statistics, pools):
            first[rows], second[rows] = law.from_moments(*mixture.moments())
        return [(law, (first, second))]

    def _mixtures(
        self, statistics: Statistics, pools: Codes
    ) -> Iterator[tuple[NDArray[np.int64], Mixture]]:
        geometry = geometry_of(self.family)
        size, raw = geometry.sizes(statistics)
        for rows, part in self.table.blocks(pools, _BLOCK):
            moments = store_moments(geometry, part, size[rows], raw[rows])
            if geometry.law is GAMMA:
                least = _LEAST * moments.node_mean**2
                variance = np.maximum(moments.node_variance, least)
                moments = replace(moments, node_variance=variance)
            yield rows, store_mixture(geometry, part, moments)


@dataclass(frozen=True)
class _SampledLaws:
    family: Family
    nodes: SampledNodes
    terms: int

    def components(self) -> NDArray[np.int64]:
        first_order = self.nodes.method == "first_order"
        sizes = np.array([len(pool.weight) for pool in self.nodes.pools])
        return np.asarray(np.where(first_order, 1, sizes))

    def mixtures(self, statistics: Statistics, pools: Codes) -> list[Mixture]:
        parts: list[list[tuple[NDArray[np.int64], Mixture]]] = [[] for _ in range(self.terms)]
        for rows, posterior in self._posteriors(statistics, pools):
            law, weight = posterior.conditional.law, posterior.law_weight
            if posterior.conditional.mixture is not None:
                parts[0].append((rows, posterior.conditional.mixture(posterior.weight).few()))
                continue
            for term, of_term in enumerate(parts):
                own = tuple(p[:, :, term].copy() for p in posterior.conditional.parameters)
                if weight.shape[-1] > _MANY:
                    of_term.append((rows, condensed(law, weight, own)))
                else:
                    mixture = Mixture(law, np.broadcast_to(weight, own[0].shape), own)
                    of_term.append((rows, mixture))
        return [_joined(of_term) for of_term in parts]

    def matched(self, statistics: Statistics, pools: Codes) -> list[tuple[Law, Parameters]]:
        mean, variance = np.empty((2, len(pools), self.terms))
        law = NORMAL
        for rows, posterior in self._posteriors(statistics, pools):
            if posterior.conditional.mixture is not None:
                own = posterior.conditional.mixture(posterior.weight).few()
                law, (centre, spread) = own.law, own.moments()
                mean[rows, 0], variance[rows, 0] = centre, spread
                continue
            mean[rows], variance[rows] = posterior.mean, posterior.variance
            law = posterior.conditional.law
        law = NORMAL if law is STUDENT_T else law
        return [(law, law.from_moments(mean[:, t], variance[:, t])) for t in range(self.terms)]

    def _posteriors(
        self, statistics: Statistics, pools: Codes
    ) -> Iterator[tuple[NDArray[np.int64], StorePosterior]]:
        sampling, width = store_update(self.family), numbers_of_a_row(self.family, self.terms)
        for rows, pool, some in blocks_of_pools(self.nodes, statistics, pools, width):
            yield rows, StorePosterior.of(sampling, self.nodes.pools[pool], some)


def _joined(parts: Sequence[tuple[NDArray[np.int64], Mixture]]) -> Mixture:
    """Put mixtures together; each part comes with the numbers of its rows in the whole."""
    rows = np.concatenate([numbers for numbers, _ in parts])
    width = max(part.weight.shape[1] for _, part in parts)
    law = parts[0][1].law
    weight = np.zeros((len(rows), width))
    parameters = tuple(np.ones((len(rows), width)) for _ in parts[0][1].parameters)
    for numbers, part in parts:
        columns = part.weight.shape[1]
        weight[numbers, :columns] = part.weight
        for whole, own in zip(parameters, part.parameters, strict=True):
            whole[numbers, :columns] = own
    return Mixture(law, weight, parameters)
