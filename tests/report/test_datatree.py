"""Posteriors as arrays: what a row says is found at its store, term and quantile."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.errors import ConfigError
from hbpipe.report.datatree import to_xarray


def row(metric: str, store: str, term: str, mean: float | None, **more: Any) -> dict[str, Any]:
    return {
        "as_of": None,
        "metric": metric,
        "chain_id": "c",
        "store_id": store,
        "level": "store_id",
        "term": term,
        "pool": "c",
        "n": 3,
        "mean": mean,
        "q0.05": None if mean is None else mean - 1.0,
        "q0.95": None if mean is None else mean + 1.0,
        "q0.5": None,
        "method": "integrated",
        "silent": False,
        "p_below_target": None,
        **more,
    }


ROWS = [
    row("slope", "s2", "price", 4.0),
    row("slope", "s1", "intercept", 1.0),
    row("slope", "s2", "intercept", None),
    row("slope", "s1", "price", 2.0),
    row("rate", "s2", "theta", 0.2),
    row("rate", "s1", "theta", 0.1),
    row("rate", "unused", "theta", 9.0, store_id=None, level="chain_id"),
]


def test_every_number_is_at_its_place() -> None:
    tree = to_xarray(pa.Table.from_pylist(ROWS), {"release": "2026-01-31.1"})
    assert tree.attrs == {"release": "2026-01-31.1"}
    assert sorted(tree.children) == ["rate", "slope"]
    rate, slope = tree["rate"], tree["slope"]
    assert rate["store_id"].values.tolist() == ["s1", "s2"]
    np.testing.assert_array_equal(rate["mean"], [0.1, 0.2])
    np.testing.assert_array_equal(rate["quantiles"].sel(quantile=0.95), [1.1, 1.2])
    assert slope["mean"].dims == ("store", "term")
    assert slope["term"].values.tolist() == ["intercept", "price"]
    np.testing.assert_array_equal(slope["mean"], [[1.0, 2.0], [np.nan, 4.0]])
    np.testing.assert_array_equal(slope["quantiles"].sel(term="price"), [[1.0, 3.0], [3.0, 5.0]])
    assert "p_below_target" not in rate
    assert rate["silent"].dtype == bool
    assert rate["n"].dtype == np.int64


def test_without_its_keys_a_row_has_no_place() -> None:
    table = pa.Table.from_pylist(ROWS)
    with pytest.raises(ConfigError, match="posteriors without term"):
        to_xarray(table.drop(["term"]))


def test_without_xarray_the_way_out_is_told() -> None:
    program = (
        "import sys; sys.modules['xarray'] = None; import hbpipe, pyarrow as pa\n"
        "from hbpipe.errors import ConfigError\n"
        "try: hbpipe.to_xarray(pa.table({}))\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'hbpipe[xarray]'" in done.stdout
