"""Units as codes: the same partition of the rows as Python tuples make, in any encoding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbpipe.data import units as module
from hbpipe.data.units import (
    compact,
    count_shards,
    encode,
    encode_any,
    find_units,
    shard_of,
    shared_ids,
)


def tuples(units) -> list[tuple]:
    """Return the keys of each row."""
    keys = [key.to_pylist() for key in units.keys]
    return [tuple(key[code] for key in keys) for code in units.codes]


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["A", "B", None]), st.integers(0, 2), st.sampled_from(["x", "y", None])
        ),
        max_size=30,
    ),
    chunk=st.integers(1, 7),
    data=st.data(),
)
def test_units_are_the_tuples_of_the_valid_rows(rows, chunk, data):
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    kinds = (pa.string(), pa.int32(), pa.string())
    encoded = []
    for values, kind in zip(columns, kinds, strict=True):
        chunks = [pa.array(values[k : k + chunk], kind) for k in range(0, len(values), chunk)]
        column = pa.chunked_array(chunks, kind)
        if kind == pa.string() and data.draw(st.booleans()):
            coded = pa.dictionary(pa.int32(), pa.string())
            column = pa.chunked_array([one.dictionary_encode() for one in chunks], coded)
        encoded.append(encode(column))
    chosen = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    valid = np.array(chosen, np.bool_) & np.array([None not in row for row in rows], np.bool_)
    for some in (encoded, encoded[:2], encoded[2:]):
        found = find_units(some, valid)
        start = next(k for k in range(3) if encoded[k] is some[0])
        expected = [row[start : start + len(some)] for row in rows]
        got = tuples(found) if valid.any() else []
        assert [got[k] for k in np.flatnonzero(valid)] == [
            expected[k] for k in np.flatnonzero(valid)
        ]
        keys = [key.to_pylist() for key in found.keys]
        whole = {key for key in zip(*keys, strict=True) if None not in key}
        assert {expected[k] for k in np.flatnonzero(valid)} <= whole
        used = found.codes[valid]
        assert len(set(used.tolist())) == len({expected[k] for k in np.flatnonzero(valid)})


def test_many_levels_of_many_values_do_not_overflow(monkeypatch):
    n = 3000
    rng = np.random.default_rng(3)
    values = pa.array(range(3_000_000_000, 3_000_000_000 + n))
    levels = [module.Encoded(rng.integers(0, n, n), values) for _ in range(7)]  # 3000^7 > 2^63
    found = find_units(levels, np.ones(n, np.bool_))
    expected = list(zip(*(values.take(pa.array(e.codes)).to_pylist() for e in levels), strict=True))
    assert tuples(found) == expected
    assert found.n == len(set(expected))


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, None, 2, 1], pa.int8(), pa.int64()),
        ([1, None, 2, 1], pa.uint32(), pa.int64()),
        (["a", None, "b", "a"], pa.large_string(), pa.string()),
        (["a", None, "b", "a"], pa.dictionary(pa.uint8(), pa.large_string()), pa.string()),
        ([1, None, 2, 1], pa.dictionary(pa.int32(), pa.int16()), pa.int64()),
        ([None, None], pa.string(), pa.string()),
        ([], pa.dictionary(pa.int32(), pa.string()), pa.string()),
    ],
)
def test_levels_are_stored_as_one_of_two_types(values, kind, stored):
    coded = pa.types.is_dictionary(kind)
    array = pa.array(values, kind.value_type if coded else kind)
    if coded:
        array = array.dictionary_encode()
        array = pa.DictionaryArray.from_arrays(
            array.indices.cast(kind.index_type), array.dictionary
        )
    empty = array.slice(0, 0)
    for column in (array, pa.chunked_array([empty, array, empty]), array.slice(1)):
        found = encode(column)
        assert found.values.type == stored
        expected = column.cast(stored).to_pylist()
        assert [None if c < 0 else found.values[c].as_py() for c in found.codes] == expected
    assert encode_any(pa.chunked_array([], kind)).codes.tolist() == []


def test_dictionaries_of_chunks_are_unified():
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    found = encode(pa.chunked_array(chunks))
    assert found.values.to_pylist() == ["a", "b", "c"]
    assert found.codes.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("size", [10, 10**9])
def test_compact_by_table_and_by_sort(size):
    codes = np.array([7, 3, 9, 3, 1])
    valid = np.array([True, True, False, True, True])
    found, present = compact(codes, size, valid)
    assert present.tolist() == [1, 3, 7]
    assert found[valid].tolist() == [2, 1, 1, 0]
    assert found.min() >= 0
    assert found.max() < 3
    none, nothing = compact(codes, size, np.zeros(5, np.bool_))
    assert len(nothing) == 0
    assert none.min() >= 0


def test_shards_are_powers_of_two_and_nest(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 100)
    assert [count_shards(rows) for rows in (0, 100, 101, 200, 201, 401)] == [1, 1, 2, 2, 4, 8]
    ids = pa.array([f"S{n}" for n in range(1000)])
    eight = shard_of(ids, 8)
    for fewer in (1, 2, 4):
        assert (eight % fewer == shard_of(ids, fewer)).all()
    assert set(eight.tolist()) == set(range(8))
    assert np.bincount(eight).min() > 80


def test_shards_are_the_same_on_every_machine():
    check_value = 0xCBF43926  # of "123456789", in every description of CRC-32
    for ids in (pa.array(["123456789"]), pa.array([123456789])):
        assert shard_of(ids, 1 << 20).tolist() == [check_value % (1 << 20)]


def test_ids_under_two_parents():
    chains, stores = pa.array(["A", "B", "A", "B", "C"]), pa.array([1, 1, 2, 3, 1])
    assert shared_ids((chains, stores)) == 1
    assert shared_ids((stores,)) == 0
    assert shared_ids((chains.slice(0, 0), stores.slice(0, 0))) == 0
