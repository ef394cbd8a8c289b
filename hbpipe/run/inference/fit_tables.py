"""Hyperparameters, fits and new stores as tables, and what the last release said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.clock import to_date
from hbpipe.data.identities import count_repeated
from hbpipe.data.parts import write_part
from hbpipe.data.quantities import Metric
from hbpipe.model.covariates.design import Design
from hbpipe.model.estimation.delta import standard_deviations
from hbpipe.model.fits import PoolFits
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.mixtures.fits import MixtureFits
from hbpipe.model.nonparametric.fits import GridFits
from hbpipe.run.fingerprints import definition
from hbpipe.run.history import Release, newest
from hbpipe.run.inference.covariates import told
from hbpipe.run.inference.effects import pooled_rows
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.new_stores import finite, new_store_rows, pool_columns
from hbpipe.run.inference.parameters import has_weight, places
from hbpipe.run.night import Night
from hbpipe.run.releases import read_of, releases
from hbpipe.run.tables import lake_table


def last_hyperparameters(
    night: Night, metric: Metric, design: Design | None = None
) -> dict[str, dict[str, float]]:
    """Read the hyperparameters of the latest earlier day: pool label -> parameter -> value.

    Never those of the same day: a rerun would then measure its drift from itself. Coefficients of
    covariates that were coded otherwise are about other columns, and are left out.
    """
    last = earlier_release(night)
    if last is None:
        return {}
    if design is not None:
        before = read_of(night.lake, last, "fits")
        coded = [
            row.get("covariates") for row in before.to_pylist() if row["metric"] == metric.name
        ]
        if set(coded) != {told(design)}:
            return {}
    table = read_of(night.lake, last, "hyperparameters")
    found: dict[str, dict[str, float]] = {}
    for row in table.to_pylist():
        same = row["metric"] == metric.name and row["family"] == metric.model.name
        # Nested groups have rows of their own, by levels that pools leave null.
        of_pool = all(row.get(name) is None for name in night.settings.inference.nest_by)
        if same and of_pool and row["value"] is not None:
            found.setdefault(row["pool"], {})[row["parameter"]] = row["value"]
    return found


def earlier_release(night: Night) -> Release | None:
    """Return the newest release of the latest earlier as-of day; None without one."""
    as_of = to_date(night.plan.as_of)
    every = releases(night.lake, night.settings.environment)
    return newest(row for row in every if row["as_of"] < as_of)


def stage_fits(night: Night) -> None:
    """Write hyperparameters, fits and new stores of the as-of day, for the release to commit."""
    rows: dict[str, list[dict[str, Any]]] = {"hyperparameters": [], "fits": [], "new_stores": []}
    for found in night.fits.values():
        rows["hyperparameters"] += _hyperparameter_rows(night, found)
        rows["fits"] += _fit_rows(night, found)
        rows["new_stores"] += new_store_rows(night, found)
    for name, records in rows.items():
        definition = lake_table(night, name)
        schema = definition.data_schema
        table = pa.Table.from_pylist(records, schema=schema)
        night.repeated[name] = repeated_rows(night, table, definition.key)
        receipt = write_part(
            night.lake.storage,
            name,
            table,
            schema=schema,
            run_id=night.run_id,
            partition={"as_of": to_date(night.plan.as_of).isoformat()},
        )
        night.staged[name] = [receipt]


def repeated_rows(night: Night, table: pa.Table, key: Sequence[str]) -> dict[str, int]:
    """Count the rows of one as-of day whose key stands in another row already, by metric."""
    within = [name for name in key if name in table.column_names]
    of_metric = {
        metric.name: table.filter(pc.equal(table["metric"], metric.name)).select(within)
        for metric in night.metrics
    }
    return {name: count_repeated(rows.columns) for name, rows in of_metric.items()}


def _hyperparameter_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    sds, terms = standard_deviations(found.fits), found.parameter_terms
    pooled = pooled_rows(found, night.settings.inference.quantiles)
    return [
        {
            **pool_columns(night, found, pool),
            "family": found.metric.model.name,
            "parameter": label,
            "value": float(values[(g, *place)]) if _is_known(found, g, name, place) else None,
            "sd": _positive(sds[name][(g, *place)]),
            **pooled[g].get(label, {}),
        }
        for g, pool in enumerate(found.pools)
        for name, values in found.fits.hyperparameters.items()
        for label, place in places(name, np.shape(values)[1:], terms)
        if has_weight(found.fits, g, place)
    ] + _group_hyperparameters(night, found)


def _group_hyperparameters(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    """Give nested groups of counts the parameters of their own priors.

    Groups of normal families differ by their means alone, which are posteriors of their own.
    Where the data of a root determine nothing, its groups' parameters are null.
    """
    if found.groups is None or geometry_of(found.metric.model).location_is_analytic:
        return []
    known = found.groups.nodes[-1].method != "unidentified"
    return [
        {
            **pool_columns(night, found, group),
            "family": found.metric.model.name,
            "parameter": name,
            "value": float(values[g]) if known[g] else None,
        }
        for g, group in enumerate(found.tree.finest)
        for name, values in found.groups.hyperparameters[-1].items()
    ]


def _is_known(found: MetricFit, g: int, name: str, place: tuple[int, ...]) -> bool:
    """Tell whether the data of a pool determine a number: a chain without malls has no effect."""
    if found.span is not None and name == "coefficients":
        return bool(found.fits.identified[g] and found.span.determined[(g, *place)])
    return bool(found.fits.identified[g])


def _positive(value: float) -> float | None:
    """Return null for what is not defined: the sd of a parameter on a bound, or held."""
    return float(value) if np.isfinite(value) and value > 0 else None


def _fit_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    fits, converged, words = found.fits, found.converged, found.status
    # Pools with nested levels may have had fewer starts than others; NaN stands for none.
    starts = [values[~np.isnan(values)] for values in fits.start_values.T]
    return [
        {
            **pool_columns(night, found, pool),
            "family": found.metric.model.name,
            "estimator": fits.estimator,
            "n_groups": int(fits.n_groups[g]),
            "log_marginal_likelihood": finite(fits.log_marginal_likelihood[g]),
            "start_log_marginal_likelihood": finite(fits.start_log_marginal_likelihood[g]),
            "log_likelihood_no_pooling": finite(found.no_pooling[g]),
            "log_likelihood_complete_pooling": finite(found.complete.log_likelihood[g]),
            "starts": len(starts[g]),
            "starts_agree": bool(fits.starts_agree[g]),
            "start_values": [finite(value) for value in starts[g]],
            "iterations": int(fits.iterations[g]),
            "gradient_norm": finite(fits.gradient_norm[g]),
            **_eigenvalues(fits.curvature_of(g)),
            "converged": bool(converged[g]),
            "boundary": bool(fits.boundary[g]),
            "at_bound": ", ".join(fits.at_bound[g]),
            "status": words[g],
            "method": str(found.nodes.method[g]),
            **_sampling_columns(found, g),
            "drift": found.drift[g],
            "prior": fits.chosen[g],
            **_criteria(fits, g),
            "definition": definition(found.metric),
            "covariates": told(found.design),
            **_overdispersion(found, g),
            **_choice(found, g),
        }
        for g, pool in enumerate(found.pools)
    ]


def _criteria(fits: PoolFits, g: int) -> dict[str, float | None]:
    """Tell what the choice between one law and a mixture rests on, where there was one."""
    names: tuple[str, ...] = ()
    if isinstance(fits, MixtureFits):
        names = ("bic_single", "bic_mixture")
    elif isinstance(fits, GridFits):
        names = ("score_single", "score_grid", "duality_gap")
    return {name: finite(getattr(fits, name)[g]) for name in names}


def _overdispersion(found: MetricFit, g: int) -> dict[str, Any]:
    if found.overdispersion is None or not found.overdispersion.df[g] > 0:
        return {}
    return {
        "overdispersion": float(found.overdispersion.phi[g]),
        "overdispersion_by": found.metric.cells.by,
        "overdispersion_df": float(found.overdispersion.df[g]),
    }


def _choice(found: MetricFit, g: int) -> dict[str, Any]:
    if found.choice is None:
        return {}
    return {
        "dynamics": found.choice.words[g],
        "log_score_static": finite(found.choice.static[g]),
        "log_score_drifting": finite(found.choice.drifting[g]),
        "scored_days": int(found.choice.scored[g]),
    }


def _eigenvalues(found: NDArray[np.float64]) -> dict[str, float | None]:
    """Give the ends of the scaled curvature's spectrum; null where nothing was estimated."""
    ends = (float(found[0]), float(found[-1])) if len(found) else (None, None)
    return dict(zip(("smallest_eigenvalue", "largest_eigenvalue"), ends, strict=True))


def _sampling_columns(found: MetricFit, g: int) -> dict[str, Any]:
    """Tell how well the nodes of a pool represent its hyperparameters, where they are sampled."""
    if found.groups is not None:
        drawn = found.groups.drawn[g]
        if drawn.sampler == "none":
            return {}
        return {"sampler": drawn.sampler, **_sampled(drawn)}
    if not isinstance(found.nodes, SampledNodes):
        return {}
    pool = found.nodes.pools[g]
    return {"sampler": pool.sampler or None, **_sampled(pool)}


def _sampled(nodes: Drawn | PoolNodes) -> dict[str, float | None]:
    return {name: finite(getattr(nodes, name)) for name in ("ess", "pareto_k", "r_hat")}
