"""The night, in reading order: aggregate, fit, update, audit, release.

Each stage takes the night, adds its part, and returns a few numbers for people. Nothing a stage
writes is seen by readers before ``release`` appends its one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hbpipe.data.clock import to_date
from hbpipe.data.spill import drop_spilled
from hbpipe.run import audits, commits
from hbpipe.run.day_tasks import day_tasks
from hbpipe.run.gates import check_days, check_new_files, check_release, refuse_held
from hbpipe.run.inference.changes import compare_with_earlier
from hbpipe.run.inference.comparison import compare_units
from hbpipe.run.inference.covariates import code_covariates
from hbpipe.run.inference.diagnostics import diagnose, outliers_of
from hbpipe.run.inference.effects import fold_effects
from hbpipe.run.inference.findings import stage_diagnostics
from hbpipe.run.inference.fit_tables import stage_fits
from hbpipe.run.inference.fitting import find_trees, fit_on_sketches
from hbpipe.run.inference.group_rows import stage_groups
from hbpipe.run.inference.overdispersion import divisors, measure
from hbpipe.run.inference.posterior_table import write_posteriors
from hbpipe.run.inference.reconciliation import read_totals, reconcile_units
from hbpipe.run.inference.size_dependence import measure_size_dependence
from hbpipe.run.inference.update import update_shard
from hbpipe.run.inference.updated import UpdateOrder
from hbpipe.run.months import with_months
from hbpipe.run.night import Night
from hbpipe.run.tables import lake_table
from hbpipe.run.windows import find_sources, fold_shards, presence_of, window_orders


def aggregate(night: Night) -> dict[str, Any]:
    """Turn the events of every due day into committed statistics.

    Raises
    ------
    GateError
        When a day fails the data gate; it is held, the other days are committed.
    """
    measure_days(night)
    refuse_held(night)
    accounts = [audits.total_account(result) for result in night.results.values()]
    return {
        "days": len(night.plan.days),
        "rows": sum(account.rows for account in accounts),
        "accepted": sum(account.accepted for account in accounts),
        "rejected": sum(account.rejected for account in accounts),
        "repeated": sum(account.repeated for account in accounts),
    }


def measure_days(night: Night) -> set[int]:
    """Commit the statistics of every due day that passes the data gate; return those held.

    Raises
    ------
    GateError
        When new files fail a check: nothing of them is taken as known.
    """
    commits.prepare_lake(night)
    check_new_files(night)
    try:
        results = night.engine.gather(day_tasks(night), night.progress("aggregate"))
    finally:
        drop_spilled(night.lake.storage, night.run_id)
    night.results = {result.day: result for result in results}
    held = check_days(night)
    commits.commit_days(night, held)
    return held


def fit(night: Night) -> dict[str, Any]:
    """Fold the window and fit every pool's hyperparameters from sketches."""
    night.totals = read_totals(night)
    orders = window_orders(night, with_months(night, find_sources(night)))
    night.folded = fold_shards(night.engine, orders)
    night.presence = presence_of(night)
    trees = find_trees(night)
    pools = next(iter(trees.values())).pools
    fold_effects(night, pools)
    coded = code_covariates(night, pools, [order.listed for order in orders])
    dispersed = measure(night, pools)
    divided = divisors(night.metrics, dispersed)
    for done, metric in enumerate(night.metrics, start=1):
        name = metric.name
        night.fits[name] = fit_on_sketches(
            night,
            metric,
            trees[name],
            dispersed.get(name),
            divided.get(name),
            coded.get(name),
        )
        night.observer.progress("fit", done, len(night.metrics))
    measure_size_dependence(night, pools)
    diagnose(night)
    stage_fits(night)
    return {
        "pools": len(pools),
        "metrics": len(night.metrics),
        "at_bound": {name: int(np.sum(found.fits.boundary)) for name, found in night.fits.items()},
    }


def update(night: Night) -> dict[str, Any]:
    """Compute and stage the posteriors of every unit, shard by shard."""
    order = UpdateOrder(
        metrics=night.metrics,
        levels=night.form.levels,
        priors={name: found.priors for name, found in night.fits.items()},
        quantiles=night.settings.inference.quantiles,
        table=lake_table(night, "posteriors"),
        label=to_date(night.plan.as_of).isoformat(),
        run_id=night.run_id,
        last_day=night.plan.as_of not in {entry.day for entry in night.left_out},
    )
    shared = night.engine.share(order, label="nodes of the hyperparameters")
    updated = [
        night.engine.submit(update_shard, shared, folded, rows, label=f"update of shard {shard}")
        for shard, (folded, rows) in enumerate(zip(night.folded, outliers_of(night), strict=True))
    ]
    compared = [
        [promise for columns in of_shard for promise in columns]
        for of_shard in zip(
            compare_units(night.engine, order, shared, updated),
            compare_with_earlier(night, shared, updated),
            reconcile_units(night, updated),
            strict=True,
        )
    ]
    tasks = [
        night.engine.submit(
            write_posteriors,
            night.lake.storage,
            shared,
            *of_shard,
            label=f"posteriors of shard {shard}",
        )
        for shard, of_shard in enumerate(zip(night.folded, updated, compared, strict=True))
    ]
    del updated, compared
    written = night.engine.gather(tasks, night.progress("update"))
    night.staged["posteriors"] = [receipt for receipt, _ in written]
    night.tallies = [tally for _, tallies in written for tally in tallies] + stage_groups(night)
    night.folded = []
    units = sum(tally.units for tally in night.tallies if tally.metric == night.metrics[0].name)
    return {"units": units, "posteriors": sum(tally.posteriors for tally in night.tallies)}


def audit(night: Night) -> dict[str, Any]:
    """Check fits and posteriors before anything of them is published.

    Raises
    ------
    GateError
        When a check fails; the old release stays, the staged files are kept for inspection.
    """
    stage_diagnostics(night)
    check_release(night)
    warned = [check for check in night.checks if check.status == "warn"]
    return {"checks": len(night.checks), "warnings": len(warned)}


def release(night: Night) -> dict[str, Any]:
    """Commit what was staged, and last the one row that shows it to readers."""
    commits.commit_results(night)
    night.released = commits.commit_release(night)
    return {"release": night.released["release"]}


#: The stages of a night, in order.
STAGES: tuple[Callable[[Night], dict[str, Any]], ...] = (aggregate, fit, update, audit, release)
