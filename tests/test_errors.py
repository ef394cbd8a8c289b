"""Every error survives the way from a worker, and says what its reader needs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from hbpipe import errors
from hbpipe.errors import HbpipeError


def tree(root: type[HbpipeError]) -> Iterator[type[HbpipeError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


KINDS = sorted(set(tree(HbpipeError)), key=lambda kind: kind.__name__)
EXIT_CODES = {"ConfigError": 2, "GateError": 3, "LeaseError": 4, "LateError": 5}


def example(kind: type[HbpipeError]) -> HbpipeError:
    return kind(
        "a negative count",
        where={"file": "day.parquet", "row": 7, "row_group": 0},
        expected="counts of zero or more",
        remedy="mend the export, then run again",
    )


def test_the_tree_is_drawn_in_one_file() -> None:
    assert {kind.__module__ for kind in KINDS} == {"hbpipe.errors"}
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in drawn] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[HbpipeError], protocol: int) -> None:
    error = example(kind)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.exit_code == error.exit_code


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_without_details(kind: type[HbpipeError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("no events")))
    assert (type(copy), str(copy), copy.where) == (kind, "no events", {})


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes(kind: type[HbpipeError]) -> None:
    assert kind.exit_code == EXIT_CODES.get(kind.__name__, 1)


def test_a_message_has_four_parts() -> None:
    assert str(example(errors.EventsError)) == (
        "a negative count (file day.parquet, row 7, row group 0); "
        "expected: counts of zero or more; what to do: mend the export, then run again"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_becomes_more_precise_on_the_way_up(kind: type[HbpipeError]) -> None:
    error = example(kind).at(chain="north", row=8)
    assert type(error) is kind
    assert error.where == {"chain": "north", "file": "day.parquet", "row": 7, "row_group": 0}
    assert error.remedy == example(kind).remedy
