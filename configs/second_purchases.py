"""Write spells from till lines, for ``survival.yaml``: from a household's first day to its second.

    python configs/second_purchases.py LINES.parquet second_purchases/events/spells.parquet

One row for each store and household that bought there: ``first_day``, the day on which the spell
begins; ``days``, how long it lasts, to the next day with a basket or, where none came, to the last
day of the file; ``again``, whether one came. Baskets of one day are one. ``LINES`` needs the
columns ``store_id``, ``household_id`` and ``transaction_timestamp``, an ISO text.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet


def second_purchases(lines: pa.Table) -> pa.Table:
    """Return one spell for each household of a store, ordered by store and household."""
    days: dict[tuple[str, str], set[date]] = defaultdict(set)
    for line in lines.to_pylist():
        day = date.fromisoformat(line["transaction_timestamp"][:10])
        days[line["store_id"], line["household_id"]].add(day)
    end = max(max(of_household) for of_household in days.values())
    spells = []
    for (store, household), of_household in sorted(days.items()):
        first, *later = sorted(of_household)
        length = (min(later, default=end) - first).days
        row = {"store_id": store, "household_id": household, "first_day": first}
        spells.append({**row, "days": length, "again": bool(later)})
    return pa.Table.from_pylist(spells)


def main(source: str, path: str) -> None:
    """Write the spells of the till lines in ``source`` to the Parquet file ``path``."""
    columns = ["store_id", "household_id", "transaction_timestamp"]
    spells = second_purchases(pyarrow.parquet.read_table(source, columns=columns))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(spells, path, compression="zstd")
    again = sum(spells["again"].to_pylist())
    print(f"{path}: {spells.num_rows} spells, {again} of them with a second purchase")


if __name__ == "__main__":
    main(*sys.argv[1:])
