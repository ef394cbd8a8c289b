"""What upkeep did, or would do, as text."""

from __future__ import annotations

from collections.abc import Iterator

from hbpipe.report.tables import text_table
from hbpipe.run.expiry import Expiry
from hbpipe.run.forget import ForgetReport
from hbpipe.run.retention import Upkeep


def upkeep_text(found: Upkeep, *, done: bool) -> str:
    """Write it for a terminal; ``done`` says whether it has happened."""
    if not found.work:
        return f"Nothing to do: {found.kept} release(s) kept, and nothing that none of them needs."
    return "\n".join(_lines(found, "went" if done else "would go"))


def _lines(found: Upkeep, verb: str) -> Iterator[str]:
    yield f"{found.kept} release(s) kept; {len(found.releases)} {verb}"
    for one in found.releases:
        yield f"  {one['release']} of {one['as_of']}"
    for expiry in found.expired:
        yield f"{expiry.table}: {_span(expiry)} before {expiry.until} {verb}"
    files = sum(len(one.files) for one in found.tables)
    size = sum(one.size for one in found.tables) / 2**20
    yield f"{files} file(s), {size:.1f} MiB, that nothing needs {verb}"
    rows = [
        {
            "table": one.table,
            "files": len(one.files),
            "MiB": round(one.size / 2**20, 1),
            "log entries": one.entries,
            "checkpoints": len(one.checkpoints),
        }
        for one in found.tables
    ]
    if rows:
        yield text_table(rows)
    if found.spools:
        yield f"{len(found.spools)} file(s) that dead processes left in staging {verb}"


def _span(expiry: Expiry) -> str:
    if expiry.partitions:
        return f"{len(expiry.partitions)} day(s)"
    return f"{expiry.rows:,} row(s)"


def forget_text(found: ForgetReport, *, done: bool) -> str:
    """Write for a terminal what was, or would be, forgotten; the id itself is not repeated."""
    verb = "went" if done else "would go"
    lines = [f"{table}: {rows:,} row(s) {verb}" for table, rows in found.rows.items() if rows]
    lines.append(f"{len(found.rewritten)} release(s) name versions without it")
    lines += [f"  {name} expires: its results had been replaced" for name in found.expired]
    if done:
        lines.append(f"{found.files} file(s) deleted; no file left in the lake holds the id")
        lines.append("The events are not touched: delete it there too.")
    return "\n".join(lines)
