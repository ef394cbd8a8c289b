"""Tables set aside for other tasks: each block comes back as it was, or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from hbpipe.data.durable import PRIVATE, Storage
from hbpipe.data.spill import Spilled, drop_spilled, read_block, spill
from hbpipe.errors import LakeError

TABLES = [
    pa.table({"id": ["a", None], "x": [[1.5, 2.0], []]}),
    pa.table({"id": pa.array([], pa.string()), "x": pa.array([], pa.list_(pa.float64()))}),
    pa.table({"n": pa.chunked_array([[1], [2, 3]])}),
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "lake"))


def staged(storage: Storage) -> list[Path]:
    return sorted(Path(storage.path(PRIVATE, "staging")).iterdir())


def test_each_block_comes_back(storage):
    spilled = spill(storage, "run-1", iter(TABLES))
    assert [read_block(storage, spilled, number) for number in range(3)] == TABLES
    assert staged(storage) == [Path(spilled.path)]


def test_a_run_drops_what_is_its_own(storage):
    drop_spilled(storage, "run-1")  # nobody has ever set anything aside
    spill(storage, "run-1", TABLES)
    others = [spill(storage, name, TABLES).path for name in ("run-1.2", "a-run-1")]
    drop_spilled(storage, "run-1")
    assert [str(path) for path in staged(storage)] == sorted(others)


@pytest.mark.parametrize("fault", ["flipped", "cut", "gone"])
def test_damage_is_found(storage, fault):
    spilled = spill(storage, "run-1", TABLES)
    path, raw = Path(spilled.path), Path(spilled.path).read_bytes()
    begin, size, _ = spilled.places[2].tolist()
    if fault == "gone":
        path.unlink()
    else:
        middle = begin + size // 2
        flipped = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
        path.write_bytes(flipped if fault == "flipped" else raw[:middle])
    with pytest.raises(LakeError, match="set aside is missing or damaged") as caught:
        read_block(storage, spilled, 2)
    assert caught.value.where["file"] == spilled.path
    if fault == "flipped":
        assert read_block(storage, spilled, 0) == TABLES[0]


def test_a_full_disk_is_told(storage, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "put", full)
    with pytest.raises(LakeError, match=r"could not be set aside: .*No space left"):
        spill(storage, "run-1", TABLES)
    assert staged(storage) == []


def test_where_blocks_lie_is_small(storage):
    spilled = spill(storage, "run-1", TABLES * 100)
    assert isinstance(spilled, Spilled)
    assert spilled.places.nbytes == 300 * 24
