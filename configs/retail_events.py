"""Write the cheese data as Parquet events, for ``retail.yaml``: ``make retail``.

The data (weekly sales of sliced cheese by 88 retailers, R package bayesm; Boatwright, McCulloch
and Rossi 1999) have no date column. A retailer's rows are in the order of its weeks, so its n-th
row is its n-th week; the first week begins on Monday, 4 January 2021.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

FIRST_WEEK = date(2021, 1, 4)


def retail_events(source: Path) -> pa.Table:
    """Read the CSV and add ``week``, ``market`` and ``chain`` (a retailer is "MARKET - CHAIN")."""
    sales = pyarrow.csv.read_csv(source)
    seen: Counter[str] = Counter()
    weeks, markets, chains = [], [], []
    for retailer in sales["retailer"].to_pylist():
        market, _, chain = retailer.partition(" - ")
        weeks.append(FIRST_WEEK + timedelta(weeks=seen[retailer]))
        markets.append(market)
        chains.append(chain)
        seen[retailer] += 1
    for name, values in (("chain", chains), ("market", markets), ("week", weeks)):
        sales = sales.add_column(0, name, pa.array(values))
    return sales


def main(source: str, path: str) -> None:
    """Write the events of CSV file ``source`` to Parquet file ``path``."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    events = retail_events(Path(source))
    pyarrow.parquet.write_table(events, path, compression="zstd")
    print(f"{path}: {events.num_rows} rows, {len(events['retailer'].unique())} retailers")


if __name__ == "__main__":
    main(*sys.argv[1:])
