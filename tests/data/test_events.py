"""Finding event files, what their columns must look like, and reading pieces of them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kernel import event_format, parse, write

from hbpipe.data import events
from hbpipe.data.columns import schema_faults
from hbpipe.data.events import (
    FileState,
    Piece,
    content_hash,
    find_files,
    full_path,
    hive_values,
    level_type,
    open_parquet,
    read_piece,
    still_same,
)
from hbpipe.data.survey import survey_file
from hbpipe.errors import EventsError

METRICS = parse(
    {
        "conversion": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
        "value": {"family": "normal", "value": "x", "where": [["kind", "==", "sale"]]},
    }
)
SOUND = {"hit": True, "x": 1.0, "kind": "sale"}


def only(root: Path) -> FileState:
    (found,) = find_files(event_format(root))
    return found


def test_files_are_found_in_the_order_of_their_paths(tmp_path):
    for name in (
        "b.parquet",
        "a.pq",
        "day=2026-03-02/x.PARQUET",
        "_day=1/y.parq",  # a partition, as Spark reads it
        "_temporary/0/z.parquet",
        ".hidden.parquet",
        ".hidden/z.parquet",
        "_SUCCESS",
        "_committed.parquet",
        "notes.txt",
        "a.parquet.crc",
    ):
        write(tmp_path / name, [SOUND])
    found = find_files(event_format(tmp_path))
    assert [file.path for file in found] == [
        "_day=1/y.parq",
        "a.pq",
        "b.parquet",
        "day=2026-03-02/x.PARQUET",
    ]
    assert found == find_files(event_format(Path(f"{tmp_path}/")))
    stat = (tmp_path / "b.parquet").stat()
    assert (found[2].size, found[2].modified_ns) == (stat.st_size, stat.st_mtime_ns)


def test_one_file_is_its_own_root(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", [SOUND])
    assert only(path).path == ""
    assert full_path(str(path), "") == str(path)
    form = event_format(path)
    assert read_piece(form, Piece(only(path), (0,), (0,), (1,)), ("x",)).num_rows == 1
    monkeypatch.chdir(tmp_path)
    assert find_files(event_format(Path("a.parquet"))) == find_files(form)


@pytest.mark.parametrize("make", [False, True])
def test_no_events(tmp_path, make):
    root = tmp_path / "events"
    if make:
        root.mkdir()
        (root / "notes.txt").write_text("x")
    with pytest.raises(EventsError, match="no Parquet file below" if make else "no events at") as e:
        find_files(event_format(root))
    assert "hbpipe simulate" in str(pickle.loads(pickle.dumps(e.value)))


def test_values_in_the_path():
    path = "chain=A%2FB/day=2026-03-02/store=__HIVE_DEFAULT_PARTITION__/plain/x=1.parquet"
    assert hive_values(path) == {"chain": "A/B", "day": "2026-03-02", "store": None}
    assert hive_values("") == hive_values("a=1.parquet") == {}


# --- columns ------------------------------------------------------------------------------------


def schema(**types) -> pa.Schema:
    sound = {
        "ts": pa.timestamp("us"),
        "chain": pa.string(),
        "store": pa.int64(),
        "hit": pa.bool_(),
        "x": pa.float64(),
        "kind": pa.string(),
        "id": pa.string(),
    }
    return pa.schema({name: kind for name, kind in {**sound, **types}.items() if kind is not None})


def column_faults(found: pa.Schema, path: str = "a.parquet") -> list[str]:
    return schema_faults(found, path, event_format(Path("/e"), event_id=("id",)), METRICS)


def test_sound_columns_have_no_fault():
    assert column_faults(schema()) == []
    dictionary = pa.dictionary(pa.int32(), pa.string())
    coded = {"chain": dictionary, "store": dictionary, "kind": dictionary, "ts": pa.large_string()}
    assert column_faults(schema(**coded, hit=pa.uint8(), x=pa.decimal128(9, 2))) == []
    assert column_faults(schema(chain=None, ts=None), "chain=A/ts=2026-03-02/a.parquet") == []


def test_every_fault_of_the_columns_is_told_at_once():
    found = schema(
        ts=pa.int64(),
        chain=pa.float64(),
        store=None,
        stor=pa.string(),
        hit=pa.string(),
        kind=pa.int8(),
        id=pa.list_(pa.string()),
    ).append(pa.field("x", pa.float64()))
    assert column_faults(found) == [
        "column 'store' is missing; did you mean 'stor'?",
        "column 'x' appears 2 times",
        "level 'chain' is double, expected text or signed whole numbers",
        "event id 'id' is list<item: string>, expected text or a number",
        "time 'ts' is int64, expected a timestamp, a date or ISO text",
        "'hit' is string, but conversion.successes needs a number or boolean",
        "'kind' is int8, but value compares it with 'sale'",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (pa.bool_(), True, True),
        (pa.bool_(), 1, False),
        (pa.int8(), True, False),
        (pa.int8(), 2.5, True),
        (pa.decimal128(9, 2), 1, True),
        (pa.large_string(), "a", True),
        (pa.dictionary(pa.int8(), pa.string()), "a", True),
        (pa.date32(), "2026-03-02", False),
        (pa.float64(), "a", False),
    ],
)
def test_what_may_be_compared_with_what(kind, value, fits):
    raw = {"family": "normal", "value": "x", "where": [["c", "in", [value]], ["c", "not_null"]]}
    faults = schema_faults(schema(c=kind), "", event_format(Path("/e")), parse({"m": raw}))
    assert (faults == []) is fits


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (pa.int8(), pa.int64()),
        (pa.uint32(), pa.int64()),
        (pa.uint64(), None),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.dictionary(pa.int8(), pa.int16()), pa.int64()),
        (pa.float64(), None),
        (pa.binary(), None),
        (pa.bool_(), None),
    ],
)
def test_the_two_types_of_levels(kind, stored):
    assert level_type(kind) == stored


def test_a_survey_names_the_file_and_all_its_faults(tmp_path):
    path = write(tmp_path / "a.parquet", [{"hit": "yes", "stor": 1}])
    table = pq.read_table(path).drop_columns(["store"])
    pq.write_table(table, path)
    with pytest.raises(EventsError) as caught:
        survey_file(event_format(tmp_path), only(tmp_path), METRICS)
    assert caught.value.where == {"file": str(path)}
    for part in ("'store' is missing", "'x' is missing", "'kind' is missing", "'hit' is string"):
        assert part in caught.value.found


# --- reading ------------------------------------------------------------------------------------


def test_a_piece_is_read_in_the_columns_asked_for(tmp_path):
    rows = [{"x": float(n), "store": f"S{n % 2}"} for n in range(10)]
    write(tmp_path / "day=2026-03-02" / "area=__HIVE_DEFAULT_PARTITION__" / "a.parquet", rows, 4)
    piece = Piece(only(tmp_path), (0, 2), (0, 8), (4, 2))
    table = read_piece(event_format(tmp_path), piece, ("day", "x", "store", "area"))
    assert table.column_names == ["day", "x", "store", "area"]
    assert table.column("x").to_pylist() == [0, 1, 2, 3, 8, 9]
    assert table.column("day").to_pylist() == ["2026-03-02"] * 6
    assert table.column("area").null_count == 6
    assert pa.types.is_dictionary(table.schema.field("store").type)
    assert (piece.rows, piece.key) == (6, (piece.file.path, 0))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"no Parquet at all", None])
def test_unreadable_files_are_named(tmp_path, content):
    path = write(tmp_path / "a.parquet", [SOUND])
    file = only(tmp_path)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(EventsError, match="not readable as Parquet") as caught:
        open_parquet(event_format(tmp_path), file)
    assert caught.value.where == {"file": str(path)}
    assert "deliver the file again" in str(pickle.loads(pickle.dumps(caught.value)))


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", [SOUND] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EventsError, match="not readable as Parquet"):
        open_parquet(event_format(tmp_path), only(tmp_path))


def test_a_flipped_bit_in_a_page_is_damage(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"x": pa.array(range(1000), pa.float64())})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    raw = bytearray(path.read_bytes())
    raw[4000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(EventsError, match="damaged") as caught:
        read_piece(event_format(tmp_path), Piece(only(tmp_path), (0,), (0,), (1000,)), ("x",))
    assert caught.value.where == {"file": str(path), "row_groups": (0,)}


def change(path: Path) -> None:
    before = path.stat()
    write(path, [SOUND, SOUND])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", [SOUND])
    form, file = event_format(tmp_path), only(tmp_path)
    assert still_same(form, file)
    real = events.open_parquet

    def deliver_again(*arguments):
        opened = real(*arguments)
        change(path)
        return opened

    monkeypatch.setattr(events, "open_parquet", deliver_again)
    with pytest.raises(EventsError, match="the file changed while it was read"):
        read_piece(form, Piece(file, (0,), (0,), (1,)), ("x",))
    path.unlink()
    assert not still_same(form, file)


def test_a_file_that_changes_during_its_survey(tmp_path):
    path = write(tmp_path / "a.parquet", [SOUND])
    form, file = event_format(tmp_path), only(tmp_path)
    change(path)
    with pytest.raises(EventsError, match="the file changed while it was read"):
        survey_file(form, file, METRICS)


def test_equal_bytes_have_equal_hashes(tmp_path):
    one = write(tmp_path / "a.parquet", [SOUND])
    (tmp_path / "b.parquet").write_bytes(one.read_bytes())
    write(tmp_path / "c.parquet", [SOUND, SOUND])
    form = event_format(tmp_path)
    hashes = [content_hash(form, file) for file in find_files(form)]
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(EventsError, match="not readable") as caught:
        content_hash(form, FileState("gone.parquet", 1, 1))
    assert caught.value.where == {"file": str(tmp_path / "gone.parquet")}


def test_the_format_lists_each_column_once():
    form = event_format(Path("/e"), event_id=("id", "store"))
    assert form.columns(METRICS) == ("ts", "chain", "store", "id", "hit", "x", "kind")
