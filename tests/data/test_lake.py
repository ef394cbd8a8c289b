"""Tables, publishing and the small tables of the ledger, in fair weather."""

from __future__ import annotations

import datetime as dt
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from hbpipe.data.lake import Lake, Snapshot
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    FIRST,
    SCHEMA,
    SECOND,
    publish,
    rows,
    statistics_lake,
    write,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return statistics_lake(tmp_path)


# Tables


def test_create_is_idempotent_and_keeps_every_version(lake: Lake) -> None:
    lake.create("statistics", SCHEMA, ["day"])
    assert lake.version("statistics") == 0
    table = DeltaTable(lake.path("statistics"))
    assert table.metadata().configuration == {"delta.enableExpiredLogCleanup": "false"}
    assert table.metadata().partition_columns == ["day"]
    assert pa.schema(table.schema()).equals(SCHEMA)


@pytest.mark.parametrize(
    ("name", "schema", "partition_by", "found"),
    [
        ("../evil", SCHEMA, ["day"], "name is not usable"),
        ("a", pa.schema([("n", pa.uint64())]), [], "column 'n' is uint64"),
        ("a", pa.schema([("t", pa.timestamp("ns", "UTC"))]), [], r"'t' is timestamp\[ns, tz=UTC\]"),
        ("a", pa.schema([("t", pa.time64("us"))]), [], "which Delta does not have"),
        ("a", pa.schema([("t", pa.null())]), [], "which Delta does not have"),
        ("a", SCHEMA, ["store"], "partition column 'store' is not a date"),
        ("a", SCHEMA, ["night"], "partition column 'night' is not a date"),
        ("statistics", SCHEMA, [], "the table is partitioned by day"),
        (
            "statistics",
            pa.schema([("n", pa.string()), ("day", pa.date32())]),
            ["day"],
            "column 'n' is int64",
        ),
    ],
)
def test_create_refuses(
    lake: Lake, name: str, schema: pa.Schema, partition_by: list[str], found: str
) -> None:
    with pytest.raises(LakeError, match=found) as caught:
        lake.create(name, schema, partition_by)
    assert caught.value.expected
    assert lake.version("statistics") == 0


def test_missing_tables_and_versions_are_named(lake: Lake) -> None:
    assert lake.version("nothing") is None
    with pytest.raises(LakeError, match=r"no such table .*table nothing"):
        lake.read("nothing")
    with pytest.raises(LakeError, match=r"no version 7 .*expected: 0 to 0"):
        lake.read("statistics", version=7)
    assert not Path(lake.path("nothing")).exists()


def test_ensure_schema_adds_columns_that_older_rows_read_as_null(lake: Lake) -> None:
    publish(lake, [write(lake, 3, FIRST)])
    wanted = pa.schema([*SCHEMA, pa.field("m2", pa.float64(), nullable=False)])
    version = lake.ensure_schema("statistics", wanted)
    assert lake.ensure_schema("statistics", wanted) == version == 2
    assert lake.read("statistics")["m2"].null_count == 3
    with pytest.raises(LakeError, match="column 'm2' is missing"):
        write(lake, 3, SECOND)
    whole = rows(2).append_column("m2", pa.array([0.5, 1.5]))
    lake.replace("statistics", whole, run_id="run-2", partition=SECOND)
    assert lake.read("statistics")["m2"].to_pylist() == [None, None, None, 0.5, 1.5]
    assert "m2" not in lake.read("statistics", version=1).column_names


def test_ensure_schema_refuses_another_type(lake: Lake) -> None:
    with pytest.raises(LakeError) as caught:
        lake.ensure_schema("statistics", pa.schema([("n", pa.float64())]))
    assert "column 'n' is int64" in str(caught.value)
    assert caught.value.expected == "double"
    with pytest.raises(LakeError, match="column 'q' is uint8"):
        lake.ensure_schema("statistics", pa.schema([("q", pa.uint8())]))
    assert lake.version("statistics") == 0


# Publishing


def test_publishing_replaces_the_partition_and_no_other(lake: Lake) -> None:
    publish(lake, [write(lake, 5, FIRST), write(lake, 2, SECOND)])
    version = publish(lake, [write(lake, 3, FIRST, start=100)])
    assert version == lake.version("statistics") == 2
    table = lake.read("statistics")
    assert table["n"].to_pylist() == [100, 101, 102, 0, 1]
    assert lake.read("statistics", version=1).num_rows == 7
    assert [file.rows for file in lake.files("statistics", partitions=[SECOND])] == [2]


def test_several_parts_share_a_partition(lake: Lake) -> None:
    receipts = [write(lake, 2, FIRST, start=start) for start in (0, 10, 20)]
    publish(lake, receipts)
    assert sorted(lake.read("statistics")["n"].to_pylist()) == [0, 1, 10, 11, 20, 21]
    order = [file.path for file in lake.files("statistics")]
    assert order == sorted(order)


def test_publishing_the_same_receipts_again_writes_nothing(lake: Lake) -> None:
    receipts = [write(lake, 2, FIRST)]
    assert publish(lake, receipts) == publish(lake, receipts) == 1
    assert lake.version("statistics") == 1


def test_receipts_of_an_older_publication_are_refused(lake: Lake) -> None:
    old = write(lake, 2, FIRST)
    publish(lake, [old])
    with pytest.raises(LakeError, match="published before"):
        publish(lake, [old, write(lake, 2, FIRST)])
    assert lake.read("statistics").num_rows == 2


def test_partition_can_be_emptied(lake: Lake) -> None:
    publish(lake, [write(lake, 2, FIRST), write(lake, 3, SECOND)])
    assert publish(lake, [], replaces=[FIRST]) == 2
    assert publish(lake, [], replaces=[FIRST]) == 2
    assert lake.read("statistics").num_rows == 3
    publish(lake, [], replaces=[SECOND])
    assert lake.read("statistics").equals(SCHEMA.empty_table())


def test_receipt_outside_the_replaced_partitions_is_refused(lake: Lake) -> None:
    with pytest.raises(LakeError, match="is not being replaced"):
        publish(lake, [write(lake, 2, FIRST)], replaces=[SECOND])
    lake.create("posteriors", SCHEMA, ["day"])
    with pytest.raises(LakeError, match="for table 'statistics'"):
        lake.publish("posteriors", [write(lake, 2, FIRST)], app_id="x", replaces=[FIRST])
    assert lake.version("statistics") == lake.version("posteriors") == 0


def test_guard_that_says_no_leaves_the_present_version(lake: Lake) -> None:
    publish(lake, [write(lake, 2, FIRST)])
    seen: list[Snapshot] = []
    version = publish(lake, [write(lake, 9, FIRST)], guard=lambda head: bool(seen.append(head)))
    assert version == 1
    assert [head.version for head in seen] == [1]
    assert lake.read("statistics").num_rows == 2


def test_commit_carries_metadata_and_a_rising_transaction(lake: Lake) -> None:
    facts = {"run_id": "r1", "counts": {"rows": 2}, "fingerprints": ["a", "b"]}
    publish(lake, [write(lake, 2, FIRST)], metadata=facts)
    publish(lake, [write(lake, 3, FIRST)], metadata=facts)
    newest, before, created = lake.history("statistics")
    assert [entry["version"] for entry in (newest, before, created)] == [2, 1, 0]
    assert facts.items() <= newest["metadata"].items()
    assert newest["metadata"]["commit_id"] != before["metadata"]["commit_id"]
    assert created["metadata"] == {}
    assert DeltaTable(lake.path("statistics")).transaction_version("statistics/x") == 1
    assert len(lake.history("statistics", limit=1)) == 1


def test_no_version_is_ever_trimmed(lake: Lake) -> None:
    schema = lake.snapshot("statistics").data_schema
    for _ in range(105):
        part = lake.write_part(
            "statistics", rows(1), run_id="run-1", partition=FIRST, schema=schema
        )
        publish(lake, [part])
    log = sorted(path.name for path in Path(lake.path("statistics", "_delta_log")).iterdir())
    assert log == [f"{version:020d}.json" for version in range(106)]
    assert lake.read("statistics", version=1).num_rows == 1


# Small tables


LEDGER = pa.schema(
    [("path", pa.string()), ("rows", pa.int64()), ("days", pa.map_(pa.date32(), pa.int64()))]
)


def ledger(*entries: tuple[str | None, int]) -> pa.Table:
    days = [[(dt.date(2026, 1, 1), count)] for _, count in entries]
    return pa.table(
        {
            "path": [path for path, _ in entries],
            "rows": [count for _, count in entries],
            "days": days,
        },
        schema=LEDGER,
    )


def test_upsert_replaces_by_key_and_keeps_the_rest_sorted(lake: Lake) -> None:
    lake.create("files", LEDGER)
    assert lake.upsert("files", ledger(("b", 1), ("d", 2)), ["path"], run_id="r") == 1
    assert lake.upsert("files", ledger(("c", 3), ("a", 4), ("b", 5)), ["path"], run_id="r") == 2
    read = lake.read("files")
    assert read["path"].to_pylist() == ["a", "b", "c", "d"]
    assert read["rows"].to_pylist() == [4, 5, 3, 2]
    assert read["days"].to_pylist()[0] == [(dt.date(2026, 1, 1), 4)]
    assert len(lake.files("files")) == 1
    assert lake.history("files")[0]["metadata"]["run_id"] == "r"


def test_upsert_refuses_what_it_cannot_key(lake: Lake) -> None:
    lake.create("files", LEDGER)
    with pytest.raises(LakeError, match=r"key \('a',\) is repeated"):
        lake.upsert("files", ledger(("a", 1), ("a", 2)), ["path"], run_id="r")
    with pytest.raises(LakeError, match=r"key \(None,\) is null"):
        lake.upsert("files", ledger((None, 1)), ["path"], run_id="r")
    with pytest.raises(LakeError, match="column 'days' is missing"):
        lake.upsert("files", ledger(("a", 1)).drop(["days"]), ["path"], run_id="r")
    with pytest.raises(LakeError, match="the table has partitions"):
        lake.upsert("statistics", rows(1), ["store"], run_id="r")
    assert lake.version("files") == 0


def test_upsert_guard(lake: Lake) -> None:
    lake.create("files", LEDGER)
    version = lake.upsert("files", ledger(("a", 1)), ["path"], run_id="r", guard=lambda _: False)
    assert version == 0


def test_append_adds_and_replace_replaces(lake: Lake) -> None:
    lake.create("audits", LEDGER)
    lake.append("audits", ledger(("a", 1)), run_id="r1", metadata={"why": "test"})
    lake.append("audits", ledger(("a", 1)), run_id="r1")
    assert lake.read("audits").num_rows == 2
    assert lake.history("audits")[1]["metadata"]["why"] == "test"
    lake.replace("audits", ledger(("b", 1)), run_id="r2")
    assert lake.read("audits")["path"].to_pylist() == ["b"]
    lake.replace("statistics", rows(3), run_id="r2", partition=FIRST)
    lake.replace("statistics", rows(2), run_id="r2", partition=FIRST)
    assert lake.read("statistics").num_rows == 2
    with pytest.raises(LakeError, match="is not partitioned as the table"):
        lake.append("statistics", rows(1), run_id="r2")


# Where the lake lies


def test_lake_is_picklable_and_hides_its_secrets(tmp_path: Path) -> None:
    lake = Lake(f"file://{tmp_path}/a%20lake", {"aws_secret_access_key": "hunter2"})
    assert lake.uri == f"{tmp_path}/a lake"
    assert pickle.loads(pickle.dumps(lake)) == lake
    assert "hunter2" not in repr(lake) + repr(lake.storage)
    assert lake.private_path("lease") == f"{tmp_path}/a lake/_hbpipe/lease"


def test_relative_paths_are_fixed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake("lake").uri == f"{tmp_path}/lake"


def test_object_store_addresses() -> None:
    lake = Lake("s3://bucket/prefix/", {"aws_region": "eu-west-1", "AWS_ENDPOINT_URL": "http://x"})
    assert lake.path("days") == "s3://bucket/prefix/days"
    assert lake.storage.path("days", "f") == "bucket/prefix/days/f"
    assert lake.storage.filesystem().region == "eu-west-1"


def test_unsafe_renames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="allow unsafe renames"):
        Lake(str(tmp_path), {"MOUNT_ALLOW_UNSAFE_RENAME": "true"})


def test_disk_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(LakeError, match="hard links fail"):
        lake.create("days", LEDGER)
    monkeypatch.setattr(os, "link", lambda source, target: Path(target).touch())
    with pytest.raises(LakeError, match="replaces an existing file"):
        lake.create("days", LEDGER)
    assert lake.version("days") is None
