"""The bench runs from simulation to its tables, small; how long anything took is not asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contest import Result, ratios, require_agreement, rows_of
from tests.bench.cost import Cost, cost_of, inner_cost_of

SMALL = (
    *("--million-events", "0.02", "--event-stores", "250", "--stores", "1000"),
    *("--chains", "500,1000", "--rounds", "1"),
)


def test_every_section_runs_and_agrees(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", *SMALL, "--folder", str(tmp_path)]
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.PIPE)
    report = json.loads(out.read_text(encoding="utf-8"))
    names = {row["name"] for row in report["rows"]}
    assert {"night", "from workers up", "next", "serial", "scan", "duckdb", "dask"} <= names
    assert {"orders, statsmodels", "NUTS, numpyro", "dense limits, scipy"} <= names
    for row in report["rows"]:
        assert row["cpu"] > 0, row["name"]
        assert row["peak"] > 10, row["name"]
        middle, least, greatest = row["wall_ratio"]
        assert 0 < least <= middle <= greatest


def test_a_cost_counts_children_and_keeps_the_last_line() -> None:
    burn = "sum(range(3_000_000))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{burn}']); print(1, 2)"
    one, with_child = cost_of([sys.executable, "-c", "0"]), cost_of([sys.executable, "-c", child])
    assert with_child.answer == "1 2"
    assert with_child.cpu > one.cpu
    inner = inner_cost_of([sys.executable, "-c", 'print(\'{"wall": 2, "cpu": 1, "answer": "7"}\')'])
    assert (inner.wall, inner.cpu, inner.answer) == (2, 1, "7")


def test_what_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        cost_of([sys.executable, "-c", "raise SystemExit('no such thing')"])


def costs(*seconds: float, answer: str = "1") -> tuple[Cost, ...]:
    return tuple(Cost(wall=s, cpu=2 * s, peak=10 * s, answer=answer) for s in seconds)


def test_ratios_are_of_the_same_round() -> None:
    one, other = Result("one", costs(1, 4, 9)), Result("other", costs(2, 2, 3))
    assert ratios(one, other, "wall") == (2.0, 0.5, 3.0)
    first, second = rows_of("title", [one, other], "other")
    assert first["cpu"] == 8
    assert second["cpu_ratio"] == (1.0, 1.0, 1.0)


def test_answers_that_differ_stop_a_contest() -> None:
    same = [Result("a", costs(1, answer="10 20")), Result("b", costs(1, answer="10"))]
    require_agreement(same)
    with pytest.raises(RuntimeError, match="differ"):
        require_agreement([*same, Result("c", costs(1, answer="10.001"))])
