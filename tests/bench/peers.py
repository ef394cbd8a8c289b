"""The same sums by other programs: per store how many rows, conversions, amounts, and their logs.

Each is what a user of that program would write, in its own process, on two threads:
``python -m tests.bench.peers NAME EVENTS``. Each prints the same three totals, so that a contest
also shows that all have read the same. None does what a night does after its sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

Totals = tuple[int, int, int]

COLUMNS = ["chain_id", "store_id", "converted", "amount"]


def scan(events: Path) -> Totals:
    """Decode the four columns, ids as dictionary codes, and add up: the floor of all the others."""
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def read(path: Path) -> Totals:
        file = pq.ParquetFile(path, read_dictionary=["chain_id", "store_id"])
        rows = converted = amounts = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=COLUMNS, use_threads=False)
            rows += table.num_rows
            converted += pc.sum(table["converted"]).as_py()
            amounts += table.num_rows - table["amount"].null_count
        return rows, converted, amounts

    with ThreadPoolExecutor(2) as pool:
        rows, converted, amounts = zip(*pool.map(read, _files(events)), strict=True)
    return sum(rows), sum(converted), sum(amounts)


def duckdb(events: Path) -> Totals:
    """Group by chain and store in SQL."""
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    stores = connection.sql(
        f"""SELECT chain_id, store_id, count(*), sum(converted::int), count(amount),
            sum(ln(amount)), sum(ln(amount) * ln(amount))
        FROM '{events}/*.parquet' GROUP BY ALL"""
    ).fetchall()
    return tuple(int(sum(row[column] for row in stores)) for column in (2, 3, 4))


def polars(events: Path) -> Totals:
    """Group by chain and store on a lazy frame."""
    import os

    os.environ["POLARS_MAX_THREADS"] = "2"
    import polars as pl

    log = pl.col("amount").log()
    stores = (
        pl.scan_parquet(events / "*.parquet")
        .group_by("chain_id", "store_id")
        .agg(
            pl.len().alias("rows"),
            pl.col("converted").sum(),
            pl.col("amount").count().alias("amounts"),
            log.sum().alias("log"),
            (log * log).sum().alias("square"),
        )
        .collect(engine="streaming")
    )
    return tuple(int(stores[name].sum()) for name in ("rows", "converted", "amounts"))


def arrow(events: Path) -> Totals:
    """Group a table by pyarrow's own group_by; the whole table is in memory, as it asks for."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    pa.set_cpu_count(2)
    table = ds.dataset(events).to_table(columns=COLUMNS)
    log = pc.ln(table["amount"])
    table = table.append_column("log", log).append_column("square", pc.multiply(log, log))
    stores = table.group_by(["chain_id", "store_id"]).aggregate(
        [
            ([], "count_all"),
            ("converted", "sum"),
            ("amount", "count"),
            ("log", "sum"),
            ("square", "sum"),
        ]
    )
    names = ("count_all", "converted_sum", "amount_count")
    return tuple(pc.sum(stores[name]).as_py() for name in names)


def dask(events: Path) -> Totals:
    """Group a dask.dataframe, on threads."""
    import dask
    import dask.dataframe as dd
    import numpy as np

    with dask.config.set(scheduler="threads", num_workers=2):
        frame = dd.read_parquet(events, columns=COLUMNS)
        frame["rows"] = 1
        frame["converted"] = frame["converted"].astype("int64")
        frame["log"] = np.log(frame["amount"])
        frame["square"] = frame["log"] * frame["log"]
        sums = {"rows": "sum", "converted": "sum", "amount": "count", "log": "sum", "square": "sum"}
        stores = frame.groupby(["chain_id", "store_id"]).agg(sums).compute()
    return tuple(int(stores[name].sum()) for name in ("rows", "converted", "amount"))


def spark(events: Path) -> Totals:
    """Group a DataFrame of PySpark, on two local threads; needs pyspark and Java."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    session = SparkSession.builder.master("local[2]").getOrCreate()
    log = f.log("amount")
    stores = (
        session.read.parquet(str(events))
        .groupBy("chain_id", "store_id")
        .agg(
            f.count("*").alias("rows"),
            f.sum(f.col("converted").cast("int")).alias("converted"),
            f.count("amount").alias("amounts"),
            f.sum(log).alias("log"),
            f.sum(log * log).alias("square"),
        )
        .collect()
    )
    session.stop()
    return tuple(int(sum(row[name] for row in stores)) for name in ("rows", "converted", "amounts"))


def _files(events: Path) -> list[Path]:
    return sorted(events.glob("*.parquet"))


PEERS: dict[str, Callable[[Path], Totals]] = {
    peer.__name__: peer for peer in (scan, duckdb, polars, arrow, dask, spark)
}


if __name__ == "__main__":
    print(*PEERS[sys.argv[1]](Path(sys.argv[2])))
