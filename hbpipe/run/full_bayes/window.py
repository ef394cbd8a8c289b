"""The statistics that a release rests on, folded once more as its night folded them.

Everything is read at the versions that the release names, so what came in since is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.config import Settings
from hbpipe.data.clock import to_number
from hbpipe.data.forgotten import read_forgotten
from hbpipe.data.lake import Lake
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded, fold_window
from hbpipe.errors import LakeError
from hbpipe.model.family import Array
from hbpipe.run.as_of import window_of
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import release_input, release_kernel_digest
from hbpipe.run.history import Release
from hbpipe.run.inference.effects import fold_effects
from hbpipe.run.inference.fits import effective
from hbpipe.run.inference.fitting import find_trees
from hbpipe.run.inference.overdispersion import divisors, measure
from hbpipe.run.inference.tree import Pool, pool_codes
from hbpipe.run.ledger import DayEntry, read_days, read_files
from hbpipe.run.night import Night
from hbpipe.run.observe import Observer
from hbpipe.run.plan import Plan
from hbpipe.run.releases import snapshot_of
from hbpipe.run.stock import Stock, event_format
from hbpipe.run.universe import stores_digest
from hbpipe.run.windows import find_sources, window_orders


@dataclass(frozen=True)
class Window:
    """The folded window of a release: the pools, and what divides the sizes of their units."""

    night: Night
    pools: list[Pool]
    divided: Mapping[str, Array]

    def of_pool(
        self, metric: Metric, pool: Pool, wanted: pa.Table
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Return the statistics of all units of a pool, as they were fitted, and who is who.

        Parameters
        ----------
        wanted
            Levels of some units of the pool, (K,) rows.

        Returns
        -------
        Statistics (J, ...), and the numbers of the wanted units among them, (K,).

        Raises
        ------
        LakeError
            When a wanted unit has no statistics.
        """
        night = self.night
        parts = night.engine.gather(
            [
                night.engine.submit(
                    gather_pool,
                    folded,
                    metric,
                    night.form.levels,
                    night.settings.pool_by,
                    self.pools,
                    self.pools.index(pool),
                    self.divided.get(metric.name),
                    wanted,
                    label=f"pool of {metric.name}",
                )
                for folded in night.folded
            ]
        )
        names = parts[0][0]
        statistics = {name: np.concatenate([part[0][name] for part in parts]) for name in names}
        places, start = np.full(wanted.num_rows, -1), 0
        for rows, asked, here in parts:
            places[asked] = start + here
            start += len(next(iter(rows.values())))
        if np.any(places < 0):
            raise LakeError(
                f"{int(np.sum(places < 0))} unit(s) with posteriors have no statistics",
                where={"metric": metric.name, "lake": night.lake.uri},
                expected="the units of the release",
                remedy="hbpipe verify",
            )
        return statistics, places


def gather_pool(
    folded: Folded,
    metric: Metric,
    levels: tuple[str, ...],
    pool_by: tuple[str, ...],
    pools: list[Pool],
    number: int,
    divisor: Array | None,
    wanted: pa.Table,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], NDArray[np.int64]]:
    """Return one shard's part of a pool: statistics, and which wanted units are where in it."""
    codes = pool_codes(folded, levels, pool_by, pools)
    statistics = effective(metric, folded.statistics[metric.name], codes, divisor)
    mine = np.flatnonzero(codes == number)
    keys = pa.table([key.take(pa.array(mine)) for key in folded.keys], names=list(levels))
    keys = keys.append_column("here", pa.array(np.arange(len(mine))))
    asked = wanted.append_column("asked", pa.array(np.arange(wanted.num_rows)))
    both = asked.join(keys, list(levels), join_type="inner", use_threads=False)
    rows = {name: np.asarray(values)[mine] for name, values in statistics.items()}
    return rows, both["asked"].to_numpy(), both["here"].to_numpy()


def fold_release(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    release: Release,
    *,
    observer: Observer,
    run_id: str,
) -> Window:
    """Fold the window of a release.

    Raises
    ------
    LakeError
        When settings, table of stores or ledger are not those of the release any more.
    """
    night = _night_of(settings, lake, engine, release, observer=observer, run_id=run_id)
    _require_unchanged(settings, release, night.days)
    orders = window_orders(night, find_sources(night))
    night.folded = [
        engine.submit(fold_window, order, label=f"window fold of shard {shard}")
        for shard, order in enumerate(orders)
    ]
    pools = next(iter(find_trees(night).values())).pools
    fold_effects(night, pools)
    return Window(night, pools, divisors(night.metrics, measure(night, pools)))


def _night_of(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    release: Release,
    *,
    observer: Observer,
    run_id: str,
) -> Night:
    """Return the night of a release as it was planned."""
    plan = _plan_of(settings, lake, release)
    return Night(
        settings=settings,
        lake=lake,
        engine=engine,
        observer=observer,
        run_id=run_id,
        attempt=0,  # nothing is written by it
        plan=plan,
        versions=dict(release["versions"]),
        days=dict(plan.stock.ledger),
    )


def _plan_of(settings: Settings, lake: Lake, release: Release) -> Plan:
    """Plan a release again, from the ledger that it names."""
    versions = {name: snapshot_of(lake, release, name).version for name in ("files", "days")}
    files, as_of = read_files(lake, versions["files"]), to_number(release["as_of"])
    stock = Stock(
        settings=settings,
        form=replace(event_format(settings), forgotten=read_forgotten(lake)),
        files=files,
        known=files,
        surveyed=(),
        undated=(),
        level_types=next(iter(files.values())).level_types,
        ledger=read_days(lake, versions["days"]),
        now=datetime.now(UTC),
    )
    return Plan(
        stock=stock,
        as_of=as_of,
        window=window_of(settings, files, as_of),
        days=(),
        release_reason=f"audit of {release['release']}",
        release_due=False,
        notes=(),
        settings_digest=settings.digest(),
        kernel_digest=release_kernel_digest(settings.parsed_metrics),
    )


def _require_unchanged(
    settings: Settings, release: Release, ledger: Mapping[int, DayEntry]
) -> None:
    """Refuse a release that would come out otherwise whatever the numerics.

    Of other settings the input may mean another window, so it is not compared.
    """
    as_of, stores = to_number(release["as_of"]), stores_digest(settings.stores)
    same = release["settings"] == settings.digest()
    changed = {
        "the settings": not same,
        "the table of stores": release.get("stores") not in (None, stores),
        "its input": same
        and release["input"] != release_input(as_of, ledger, settings, release.get("stores")),
    }
    found = [name for name, differs in changed.items() if differs]
    if found:
        raise LakeError(
            f"release {release['release']} cannot be audited: {' and '.join(found)} changed since",
            expected="a release made from what is there now",
            remedy="publish it anew with hbpipe run, or name another one with --release",
        )
