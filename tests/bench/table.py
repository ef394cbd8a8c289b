"""The tables that a bench prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print one section: medians, and ratios with the least and the greatest of the rounds."""
    print(f"\n{rows[0]['section']} (ratios to {rows[0]['beside']}, {rows[0]['rounds']} rounds)")
    width = max(len(row["name"]) for row in rows)
    heads = f"{'CPU s':>8}  {'wall s':>8}  {'peak MiB':>8}"
    print(f"  {'':{width}}  {heads}  {'CPU ratio':19}  wall ratio")
    for row in rows:
        clocks = f"{row['cpu']:8.3g}  {row['wall']:8.3g}  {row['peak']:8.0f}"
        both = f"{_ratio(row['cpu_ratio']):19}  {_ratio(row['wall_ratio'])}"
        print(f"  {row['name']:{width}}  {clocks}  {both}", flush=True)


def _ratio(found: tuple[float, float, float]) -> str:
    middle, least, greatest = found
    return f"{middle:.2f} [{least:.2f} {greatest:.2f}]"
