"""Write the report of a release."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError
from hbpipe.report.html.findings import (
    judge,
    read_audits,
    read_days,
    read_diagnostics,
    read_rejections,
)
from hbpipe.report.html.metrics import describe_metrics
from hbpipe.report.html.packing import Pack
from hbpipe.report.html.page import build_page
from hbpipe.report.html.priors import pack_history, read_fits, read_new_stores
from hbpipe.report.html.stores import (
    FLAGS,
    find_columns,
    limits_of,
    pack_stores,
    read_posteriors,
)
from hbpipe.run.history import Release, read_history
from hbpipe.run.night import open_lake
from hbpipe.run.releases import read_of


@dataclass(frozen=True)
class Written:
    """A report on disk, and what it says of its night; ``level`` as ``findings.judge``."""

    path: Path
    bytes: int
    level: str
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON-like values."""
        return {**vars(self), "path": str(self.path)}


def report_path(settings: Settings, row: Release) -> Path:
    """Return where the report of a release goes if nobody says otherwise."""
    folder = settings.observe.report.folder or "."
    return Path(folder) / f"{row['pipeline']}-{row['release']}.html"


def write_nightly(settings: Settings, release: str) -> Written | None:
    """Write the report of a night's release where the settings ask for one; None where not.

    Raises
    ------
    HbpipeError, OSError
        As ``write_report``.
    """
    if settings.observe.report.folder is None:
        return None
    lake = open_lake(settings)
    row = read_history(lake).named(release)
    return write_report(settings, lake, row, report_path(settings, row))


def write_report(
    settings: Settings,
    lake: Lake,
    row: Release,
    path: Path,
    *,
    metrics: Sequence[str] = (),
) -> Written:
    """Write the report of a release as one HTML file, whole or not at all.

    The same release gives the same bytes, until a check of it or an earlier night is added.

    Parameters
    ----------
    settings
        What a metric is made of is told from them, where the release was made with the same.
    row
        The release, a row of ``releases``.
    path
        The file; folders above it are made.
    metrics
        The metrics to show; by default all.

    Raises
    ------
    ConfigError
        The release has no such metric.
    LakeError
        The release has expired.
    OSError
        When the disk refuses.
    """
    facts, packed = collect(settings, lake, row, metrics)
    verdict, title = facts["verdict"], f"{row['pipeline']} {row['release']}"
    text = build_page(facts, packed, title=title, lead=verdict["sentence"])
    path.parent.mkdir(parents=True, exist_ok=True)
    spool = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        spool.write_text(text, encoding="utf-8", newline="\n")
        spool.replace(path)
    finally:
        spool.unlink(missing_ok=True)
    return Written(path, path.stat().st_size, verdict["level"], verdict["sentence"])


def collect(
    settings: Settings, lake: Lake, row: Release, asked: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """Collect what a page says, JSON-like, and its columns as the text of a ``Pack``."""
    columns, pack = find_columns(lake, row), Pack()
    metrics = _chosen(lake, row, asked)
    fits = read_fits(lake, row, columns, metrics)
    pools = list(dict.fromkeys(fit["pool"] for fit in fits))
    posteriors = read_posteriors(lake, row, columns, metrics)
    audits, diagnostics = read_audits(lake, row), read_diagnostics(lake, row, metrics)
    days = read_days(lake, row)
    place = {pool: number for number, pool in enumerate(pools)}
    news = read_new_stores(lake, row, columns, metrics)
    facts = {
        "release": _release(row),
        "verdict": judge(audits, diagnostics, fits),
        "metrics": describe_metrics(settings, row, metrics, fits),
        "limits": [float(name[1:]) for name in limits_of(posteriors, columns)],
        "levels": columns.levels,
        "flags": FLAGS,
        "pools": list({fit["pool"]: fit["label"] for fit in fits}.values()),
        "fits": [{**fit, "pool": place[fit["pool"]]} for fit in fits],
        "new_stores": [{**new, "pool": place[new["pool"]]} for new in news],
        "stores": pack_stores(posteriors, columns, pools, pack),
        "history": pack_history(lake, row, columns, metrics, pools, pack),
        "audits": audits,
        "diagnostics": diagnostics,
        "days": days,
        "rejections": read_rejections(lake, row, days),
    }
    return plain(facts), pack.text()


def _chosen(lake: Lake, row: Release, asked: Sequence[str]) -> list[str]:
    """Return the metrics of a page, in the order of the release."""
    fits = read_of(lake, row, "fits", columns=["metric"])["metric"].to_pylist()
    known = list(dict.fromkeys(fits))
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"release {row['release']} has no metric {name!r}{nearest(name, known)}",
                expected=f"one of {', '.join(known)}",
            )
    return [name for name in known if name in asked or not asked]


def _release(row: Release) -> dict[str, Any]:
    names = ("release", "pipeline", "environment", "run_id", "hbpipe", "days", "rows", "accepted")
    return {
        **{name: row[name] for name in (*names, "rejected", "repeated", "units", "pools")},
        "as_of": row["as_of"].isoformat(),
        "released_at": row["released_at"].isoformat(timespec="seconds"),
        "versions": dict(row["versions"]),
    }


def plain(value: Any) -> Any:
    """Round the numbers of a JSON-like value to six digits; those that JSON lacks become null."""
    if isinstance(value, dict):
        return {key: plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
