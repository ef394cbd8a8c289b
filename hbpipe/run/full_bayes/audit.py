"""Hold a release against full Bayes, metric by metric, and record what came of it.

The lease is taken for the last moment alone: chains may run for minutes, and nights go on. An audit
reads what the release names and writes rows of ``audits``, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.audit_tables import AUDITS
from hbpipe.data.clock import to_number
from hbpipe.data.lake import Lake
from hbpipe.data.partitioned import upsert_partition
from hbpipe.data.quantities import Metric
from hbpipe.data.weights import SAMPLING
from hbpipe.errors import ConfigError, GateError, LeaseError
from hbpipe.full_bayes.audit import Audited, By, audit_pool
from hbpipe.full_bayes.comparison import Comparison
from hbpipe.full_bayes.library import require_sampler
from hbpipe.full_bayes.sampler import MOST_R_HAT, Effort
from hbpipe.run import audits
from hbpipe.run.attempt import open_run
from hbpipe.run.audits import Check
from hbpipe.run.engine import open_engine
from hbpipe.run.full_bayes.choice import ChosenPool, ChosenStores, choose_pools, choose_stores
from hbpipe.run.full_bayes.window import Window, fold_release
from hbpipe.run.history import Release, read_history
from hbpipe.run.night import new_run_id, open_lake
from hbpipe.run.observe import Observer, Opening, Silent, watched
from hbpipe.run.releases import choose

#: The gate of these checks in ``audits``; it stops nothing, for the release is out.
GATE = "full_bayes"


@dataclass(frozen=True)
class Request:
    """What is audited: at most so many pools of each metric and stores of each pool, and how."""

    metric: str | None = None
    pools: int = 3
    stores: int = 200
    seed: int = 1
    by: By = "auto"
    effort: Effort | None = None


@dataclass(frozen=True)
class AuditReport:
    """What an audit found; ``unrecorded`` says why it is not in ``audits``."""

    release: str
    as_of: str
    run_id: str
    checks: tuple[Check, ...]
    unrecorded: str | None = None

    @property
    def failed(self) -> list[Check]:
        """The checks that found a disagreement."""
        return audits.failures(self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return {
            "release": self.release,
            "as_of": self.as_of,
            "run_id": self.run_id,
            "failed": len(self.failed),
            "recorded": self.unrecorded is None,
            "checks": [vars(check) for check in audits.by_severity(self.checks)],
        }


def audit_release(
    settings: Settings,
    request: Request | None = None,
    *,
    release: str | None = None,
    observer: Observer | None = None,
) -> AuditReport:
    """Compare what a release published with full Bayes.

    Parameters
    ----------
    request
        What is audited, and how.
    release
        A release by name, or ``previous``; by default the current one.
    observer
        Who watches; it hears of a disagreement as a failed gate.

    Raises
    ------
    ConfigError
        When there is no such metric, or NUTS is needed and numpyro is not installed.
    LakeError
        When there is no such release, or what it rests on has changed since.
    """
    request, watcher, lake = request or Request(), observer or Silent(), open_lake(settings)
    metrics = _metrics(settings, request.metric)
    row = choose(read_history(lake), settings.environment, release=release)
    if request.by == "nuts":
        require_sampler()  # before minutes of work
    run_id, report = new_run_id(), None
    opening = Opening(
        run_id, settings.pipeline, settings.environment, datetime.now(UTC), kind="audit"
    )
    try:
        with watched(watcher, opening):
            checks = _check(settings, lake, row, metrics, request, watcher, run_id)
            unrecorded = _record(settings, lake, row, checks, run_id)
            as_of = row["as_of"].isoformat()
            report = AuditReport(row["release"], as_of, run_id, tuple(checks), unrecorded)
            if report.failed:
                raise _disagreement(report)
    except GateError:
        if report is None:
            raise
    assert report is not None
    return report


def _metrics(settings: Settings, name: str | None) -> list[Metric]:
    known = {metric.name: metric for metric in settings.parsed_metrics}
    if name is None:
        return list(known.values())
    if name not in known:
        raise ConfigError(f"there is no metric {name!r}", expected=f"one of {', '.join(known)}")
    return [known[name]]


def _check(
    settings: Settings,
    lake: Lake,
    row: Release,
    metrics: list[Metric],
    request: Request,
    observer: Observer,
    run_id: str,
) -> list[Check]:
    """Audit the chosen pools of all metrics."""
    observer.stage_started(GATE)
    checks: list[Check] = []
    with open_engine(settings.cluster) as engine:
        window = fold_release(settings, lake, engine, row, observer=observer, run_id=run_id)
        chosen = [
            (metric, pool)
            for metric in metrics
            for pool in choose_pools(lake, row, metric, settings.pool_by, request.pools)
        ]
        for done, (metric, pool) in enumerate(chosen, start=1):
            checks += _check_pool(window, row, metric, pool, request)
            observer.progress(GATE, done, len(chosen))
    observer.stage_finished(GATE, {"checks": len(checks), "failed": len(audits.failures(checks))})
    return checks


def _check_pool(
    window: Window, row: Release, metric: Metric, pool: ChosenPool, request: Request
) -> Iterator[Check]:
    """Audit one pool."""
    subject, settings = f"{metric.name}, {pool.label}", window.night.settings
    if beyond := _beyond(metric, settings):
        yield _not_comparable(subject, f"{beyond}, which full Bayes here has not")
        return
    quantiles = settings.inference.quantiles
    levels = (min(quantiles), max(quantiles))
    stores = choose_stores(
        window.night.lake,
        row,
        metric,
        pool,
        window.night.form.levels,
        levels,
        count=request.stores,
        seed=request.seed,
    )
    statistics, places = window.of_pool(metric, pool.pool, stores.keys)
    found = audit_pool(
        metric.model.name,
        statistics,
        places,
        stores.published,
        levels=levels,
        hyperprior=metric.hyperprior,
        fixed=metric.fixed,
        by=request.by,
        seed=request.seed,
        effort=request.effort,
    )
    if found.trouble is not None:
        yield _not_comparable(subject, f"{found.trouble} ({found.story})", found)
    for comparison in found.comparisons:
        yield _as_check(subject, comparison, found, metric, pool, stores)


def _beyond(metric: Metric, settings: Settings) -> str:
    """Say what of a metric's model is not in the full Bayes of the audit; nothing if all is."""
    if metric.prior != "single":
        return f"the prior is a {metric.prior}"
    if metric.model.heavy_tails:
        return "conversion and basket are multiplied"
    if metric.dynamics is not None:
        return "levels move by day"
    if metric.decay is not None:
        return "days lose weight with age"
    if metric.weights == SAMPLING:
        return "sampling weights make a pseudo-likelihood"
    if metric.covariates or settings.nest_by(metric):
        return f"the prior mean has {'covariates' if metric.covariates else 'nested levels'}"
    return ""


def _not_comparable(subject: str, why: str, found: Audited | None = None) -> Check:
    """Return the check of a pool with which nothing could be compared: never a silent pass."""
    told = {} if found is None or found.answer is None else found.answer.told
    value = float(told.get("R-hat", 0.0))
    return Check(GATE, "comparable", subject, "warn", value, MOST_R_HAT, f"not comparable: {why}")


def _as_check(
    subject: str,
    found: Comparison,
    audited: Audited,
    metric: Metric,
    pool: ChosenPool,
    stores: ChosenStores,
) -> Check:
    """Turn the comparison of the worst store into a row of ``audits``."""
    assert audited.answer is not None
    answer, at = audited.answer, (found.store, found.term)
    store = " / ".join(
        str(value) for value in stores.keys.slice(found.store, 1).to_pylist()[0].values()
    )
    term = "" if len(metric.term_names) == 1 else f", {metric.term_names[found.term]}"
    message = (
        f"worst at {store}{term} (n {stores.sizes[found.store]}): published "
        f"{_told(stores.published, at)} by {pool.method}, full Bayes {_told(answer, at)}; "
        f"{stores.keys.num_rows} of {stores.among} stores; {audited.story}"
    )
    status = "pass" if found.agrees else "fail"
    return Check(GATE, found.name, subject, status, found.value, found.threshold, message)


def _told(law: Any, at: tuple[int, int]) -> str:
    return f"{law.mean[at]:.5g} ± {law.sd[at]:.3g} [{law.low[at]:.5g}, {law.high[at]:.5g}]"


def _record(
    settings: Settings, lake: Lake, row: Release, checks: list[Check], run_id: str
) -> str | None:
    """Write the checks under the lease; return why they could not be."""
    table = audits.to_table(checks, to_number(row["as_of"]), run_id)
    try:
        with open_run(lake, settings, run_id=run_id, kind="audit") as attempt:
            attempt.record(as_of=row["as_of"])
            upsert_partition(
                attempt.lake,
                "audits",
                table.drop_columns(list(AUDITS.partition_by)),
                AUDITS.key,
                partition={"as_of": row["as_of"].isoformat()},
                run_id=run_id,
            )
    except LeaseError as error:
        return str(error)
    return None


def _disagreement(report: AuditReport) -> GateError:
    worst = report.failed[0]
    return GateError(
        f"{len(report.failed)} of {len(report.checks)} comparisons with full Bayes disagree: "
        f"{worst.name} of {worst.subject}",
        where={"release": report.release},
        expected=f"{worst.name} within {worst.threshold:.3g}, found {worst.value:.3g}",
        remedy="hbpipe/run/audits/README.md says what each measure means",
    )
