"""Tables of known totals: what of them counts, what is refused, and what their digest is of."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.data.clock import to_number
from hbpipe.errors import EventsError
from hbpipe.run.totals import Totals, TotalsTables
from tests.nights import CONVERSION, settings_for

AS_OF = to_number(date(2026, 1, 3))
LEVELS = {"region": "int64", "chain_id": "string", "store_id": "string"}
NEAR_FAR = {"chain_id": ["near", "far"]}


def tables(folder: Path, rows: Any, key: str = "mean") -> TotalsTables:
    """Write a table of totals, and settings that name it."""
    path = folder / "totals.parquet"
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), path)
    known = {"totals": str(path), key: "rate"}
    metrics = {"conversion": {**CONVERSION["conversion"], "reconcile": known}}
    return TotalsTables(settings_for(folder, metrics=metrics))


def read(found: TotalsTables, as_of: int = AS_OF) -> Totals:
    (metric,) = found._settings.parsed_metrics
    return found.read(metric, LEVELS, as_of)


def test_groups_are_named_by_the_levels_that_are_there(tmp_path: Path) -> None:
    found = read(tables(tmp_path, {"rate": [0.1, 1], **NEAR_FAR, "note": ["a", None]}))
    assert (found.levels, found.groups) == (("chain_id",), [("near",), ("far",)])
    assert found.values.tolist() == [0.1, 1.0]
    found = read(tables(tmp_path, {**NEAR_FAR, "rate": [0.1, 0.2], "region": [7, 7]}))
    assert found.groups == [(7, "near"), (7, "far")], "coarse to fine"
    assert read(tables(tmp_path, {"rate": [0.3]})).groups == [()], "one total over all stores"


def test_numbers_may_be_whole_or_decimal(tmp_path: Path) -> None:
    for one in (1, Decimal("0.5"), 0.0):
        assert read(tables(tmp_path, {"rate": [one]})).values.tolist() == [float(one)]


def test_a_total_is_of_any_number_of_stores(tmp_path: Path) -> None:
    assert read(tables(tmp_path, {"rate": [250.0]}, "total")).values.tolist() == [250.0]
    with pytest.raises(EventsError, match=r"total of all is -1.0 .* from 0 to inf"):
        read(tables(tmp_path, {"rate": [-1.0]}, "total"))


def days(*of: str) -> list[date]:
    return [date.fromisoformat(one) for one in of]


def test_a_column_as_of_makes_rows_those_of_single_nights(tmp_path: Path) -> None:
    rows = {"as_of": days("2026-01-02", "2026-01-03"), "chain_id": ["near"] * 2, "rate": [0.1, 0.2]}
    found = tables(tmp_path, rows)
    assert read(found).values.tolist() == [0.2]
    assert read(found, AS_OF + 1).groups == [], "a night without totals"


def test_the_digest_is_of_the_rows_of_one_night(tmp_path: Path) -> None:
    rows = {"as_of": days("2026-01-02", "2026-01-03"), "chain_id": ["near"] * 2, "rate": [0.1, 0.2]}
    before = tables(tmp_path, rows)
    then = before.digest(AS_OF), before.digest(AS_OF + 1)
    later = {name: values[::-1] for name, values in rows.items()}
    later = {name: [*values, values[0]] for name, values in later.items()}
    later["as_of"][2], later["rate"][2] = date(2026, 1, 4), 0.3
    after = tables(tmp_path, later)
    now = after.digest(AS_OF), after.digest(AS_OF + 1)
    assert (now[0] == then[0], now[1] == then[1]) == (True, False)
    (tmp_path / "totals.parquet").unlink()
    assert TotalsTables(before._settings).digest(AS_OF) not in then[:1]


HOSTILE = "x" * 20 + "\n</script>"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"chain_id": ["near"], "ratio": [0.1]}, "no column 'rate'; did you mean 'ratio'"),
        ({"chain_id": ["near", "near"], "rate": [0.1, 0.2]}, "near has 2 totals"),
        ({"rate": [0.1, 0.2]}, "all has 2 totals"),
        ({"chain_id": [None, "far"], "rate": [0.1, 0.2]}, "level 'chain_id' .* has nulls"),
        (
            {"chain_id": [1, 2], "rate": [0.1, 0.2]},
            "'chain_id' .* is int64 .* string, as in the",
        ),
        ({"region": ["7"], "rate": [0.1]}, "level 'region' .* is string"),
        ({"chain_id": [0.5], "rate": [0.1]}, "level 'chain_id' .* is double"),
        ({"store_id": ["s1"], "rate": [0.1]}, "has the column 'store_id', the unit"),
        ({**NEAR_FAR, "rate": [0.1, None]}, "mean of far is missing"),
        ({**NEAR_FAR, "rate": [float("nan"), 0.1]}, "mean of near is missing"),
        ({**NEAR_FAR, "rate": [0.1, float("inf")]}, "mean of far is inf"),
        ({**NEAR_FAR, "rate": [-0.1, 0.1]}, "mean of near is -0.1 .* from 0 to 1, as"),
        ({**NEAR_FAR, "rate": [0.1, 35]}, "mean of far is 35.0"),
        ({**NEAR_FAR, "rate": ["0.1", "0.2"]}, "'rate' .* is string .* expected: numbers"),
        ({**NEAR_FAR, "rate": [True, False]}, "'rate' .* is bool"),
        ({**NEAR_FAR, "rate": [[0.1], [0.2]]}, "'rate' .* is list"),
        ({"as_of": ["2026-01-03"], "rate": [0.1]}, "as_of .* is string .* expected: dates"),
        ({"chain_id": [HOSTILE] * 2, "rate": [0.1, 0.2]}, "</script> has 2 totals"),
    ],
)
def test_what_is_no_table_of_totals(rows: Any, message: str, tmp_path: Path) -> None:
    found = tables(tmp_path, rows)
    with pytest.raises(EventsError, match=message) as caught:
        read(found)
    assert caught.value.where["metric"] == "conversion"
    assert caught.value.where["totals"] == str(tmp_path / "totals.parquet")
    assert found.digest(AS_OF), "status and plan do not fail for it"


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    twice = pa.table([[0.1], [0.2]], names=["rate", "rate"])
    with pytest.raises(EventsError, match="not readable: Multiple matches"):
        read(tables(tmp_path, twice))


@pytest.mark.parametrize("content", [None, b"", b"chain_id,rate\nnear,0.1\n", b"PAR1" * 9])
def test_what_is_no_parquet_file(content: bytes | None, tmp_path: Path) -> None:
    found = tables(tmp_path, {"rate": [0.1]})
    path = tmp_path / "totals.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert found.digest(AS_OF)
    with pytest.raises(EventsError, match="table of totals is not readable") as caught:
        read(found)
    assert caught.value.where["totals"] == str(path)
