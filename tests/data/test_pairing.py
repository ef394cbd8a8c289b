"""Rows paired by key: as a dictionary would pair them, nulls among the keys."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hbpipe.data.pairing import pair

LEVELS = st.tuples(
    st.sampled_from(["a", "b", None]), st.integers(0, 3) | st.none(), st.sampled_from(["x", "y"])
)
KEYS = st.lists(LEVELS, unique=True, max_size=30)
SCHEMA = pa.schema([("chain", pa.string()), ("store", pa.int64()), ("term", pa.string())])


def table(keys: list[tuple[str | None, int | None, str]]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, key, strict=True)) for key in keys], schema=SCHEMA
    )


@given(KEYS, KEYS)
def test_as_a_dictionary_would(
    left: list[tuple[str | None, int | None, str]], right: list[tuple[str | None, int | None, str]]
) -> None:
    found = pair(table(left), table(right), SCHEMA.names)
    assert [left[k] for k in found.left] == [right[k] for k in found.right]
    assert {left[k] for k in found.left} == set(left) & set(right)
    assert [left[k] for k in found.only_left] == [key for key in left if key not in right]
    assert [right[k] for k in found.only_right] == [key for key in right if key not in left]


def test_many_chunks_and_many_values() -> None:
    rng = np.random.default_rng(3)
    ids = rng.permutation(5_000)
    halves = [pa.table({"id": pa.array(part.astype(str))}) for part in np.split(ids, 2)]
    left = pa.concat_tables(halves)
    right = pa.table({"id": pa.array(rng.permutation(5_000).astype(str))}).slice(1_000)
    found = pair(left, right, ["id"])
    assert len(found.left) == 4_000
    assert left["id"].take(found.left) == right["id"].take(found.right)
    assert len(found.only_left) == 1_000
    assert len(found.only_right) == 0
