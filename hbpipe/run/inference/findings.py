"""The table ``diagnostics``: what each check found, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from hbpipe.config import Audits
from hbpipe.data.clock import to_date
from hbpipe.data.parts import write_part
from hbpipe.run.audits import EarlierFits, Finding
from hbpipe.run.audits.fits import TIMES_USUAL, drift_limits
from hbpipe.run.inference import finding_words as words
from hbpipe.run.inference.diagnostics import why_unchecked
from hbpipe.run.inference.earlier import earlier_fits
from hbpipe.run.inference.fit_tables import repeated_rows
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.store_findings import STORE_CHECKS, find_in_stores
from hbpipe.run.inference.tree import pool_label
from hbpipe.run.night import Night
from hbpipe.run.tables import lake_table


def stage_diagnostics(night: Night) -> None:
    """Put every finding into words, and write them for the release to commit."""
    limits, earlier = night.settings.audits, earlier_fits(night)
    night.findings = {
        name: [*find(fit, limits), *find_drift(fit, earlier, limits)]
        for name, fit in night.fits.items()
    }
    definition = lake_table(night, "diagnostics")
    schema = definition.data_schema
    rows = [
        {
            "metric": name,
            **_pool_columns(night.fits[name], row.pool),
            **{key: value for key, value in vars(row).items() if key != "pool"},
            "run_id": night.run_id,
        }
        for name, found in night.findings.items()
        for row in found
    ]
    table = pa.Table.from_pylist(rows, schema=schema)
    night.repeated["diagnostics"] = repeated_rows(night, table, definition.key)
    receipt = write_part(
        night.lake.storage,
        "diagnostics",
        table,
        schema=schema,
        run_id=night.run_id,
        partition={"as_of": to_date(night.plan.as_of).isoformat()},
    )
    night.staged["diagnostics"] = [receipt]


def _pool_columns(fit: MetricFit, pool: int | None) -> dict[str, object]:
    """Name a pool by its levels; all of them by nothing."""
    if pool is None:
        return {}
    levels = dict(zip(fit.tree.levels, fit.pools[pool], strict=False))
    return {**levels, "pool": pool_label(fit.pools[pool])}


def find(fit: MetricFit, limits: Audits) -> list[Finding]:
    """Return what the units of a metric say of its model, pool by pool and together."""
    reason = why_unchecked(fit)
    if reason or fit.diagnosed is None:
        found = [Finding(name, None, "not_applicable", reason) for name in STORE_CHECKS]
    else:
        found = find_in_stores(fit, fit.diagnosed, limits)
    return [*found, *_find_size_dependence(fit, limits), *_find_overdispersion(fit, limits)]


def _find_size_dependence(fit: MetricFit, limits: Audits) -> Iterator[Finding]:
    found, name = fit.size_dependence, "size_dependence"
    if found is None:
        why = "groups have means of their own, or the prior mean has a curve in n, or several terms"
        yield Finding(name, None, "not_applicable", why)
        return
    matters, critical = found.matters & fit.fits.identified, found.critical
    for g in np.flatnonzero(fit.fits.identified).tolist():
        z, slope, effect = (float(part[g]) for part in (found.z, found.slope, found.effect))
        yield Finding(
            name,
            g,
            limits.severity(name) if matters[g] else "ok",
            words.of_size(z, critical, slope, effect, bool(matters[g])),
            abs(z),
            critical,
            int(fit.fits.n_groups[g]),
            [slope],
        )
    largest = float(np.abs(found.z)[matters].max(initial=0.0))
    count = int(matters.sum())
    told = f"the prior mean depends on n in {count} of {len(fit.pools)} pool(s)"
    status = limits.severity(name) if count else "ok"
    yield Finding(name, None, status, told, largest, critical)


def _find_overdispersion(fit: MetricFit, limits: Audits) -> Iterator[Finding]:
    found, name = fit.overdispersion, "overdispersion"
    if found is None:
        yield Finding(name, None, "not_applicable", "the family has no variance to compare with")
        return
    limit, low, whole = limits.max_overdispersion, found.lower(), found.together()
    rows: list[tuple[int | None, float, float, float]] = [
        (g, *numbers) for g, numbers in enumerate(zip(found.phi, low, found.df, strict=True))
    ]
    rows.append((None, whole.phi[0], whole.lower()[0], whole.df[0]))
    for g, phi, least, df in rows:
        if not df > 0:
            told = f"no unit has two cells by {fit.metric.cells.by} to compare"
            yield Finding(name, g, "not_applicable", told)
            continue
        high = bool(least > 1.0 and phi > limit and fit.divisor is None)
        told = words.of_overdispersion(fit, float(phi), high)
        status = limits.severity(name) if high else "ok"
        yield Finding(name, g, status, told, float(phi), limit, None, [float(least), float(df)])


def find_drift(fit: MetricFit, earlier: EarlierFits, limits: Audits) -> list[Finding]:
    """Return how far each pool's hyperparameters moved since the release before."""
    name, known = "drift", [d is not None for d in fit.drift]
    if not any(known):
        return [Finding(name, None, "not_applicable", "no release before to compare with")]
    found, usual = [], earlier.drifts.get(fit.metric.name, {})
    bounds = drift_limits(fit, limits)
    for g, (label, drift) in enumerate(zip(fit.labels, fit.drift, strict=True)):
        if drift is None:
            told = "the release before has no such pool, or none that compares"
            found.append(Finding(name, g, "not_applicable", told))
            continue
        # Limits of both kinds are widened alike where a pool usually drifts by more.
        first = next((bound for bound in bounds if bound is not None), 1.0)
        wider = max(1.0, TIMES_USUAL * usual.get(label, 0.0) / first)
        warn, fail = (None if bound is None else wider * bound for bound in bounds)
        status = "ok"
        if fail is not None and drift > fail:
            status = "fail"
        elif warn is not None and drift > warn:
            status = "warn"
        limit = warn if warn is not None else fail
        told = words.of_drift(drift, limit, usual.get(label))
        found.append(Finding(name, g, status, told, drift, limit, int(fit.fits.n_groups[g])))
    return found
