"""The bench runs from simulation to its tables, small; how long anything took is not asked."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contest import Result, ratios, require_agreement, rows_of
from tests.bench.cost import Cost, cost_of, inner_cost_of
from tests.bench.library import TASKS
from tests.bench.peers import PEERS
from tests.bench.sections import of_fits, of_posteriors, of_sizes

pytestmark = pytest.mark.long

SMALL = ("--million-events", "0.02", "--event-stores", "250", "--stores", "0", "--rounds", "1")


def test_nights_and_their_peers_run_and_agree(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", *SMALL, "--uncertainty", "first_order"]
    command += ["--folder", str(tmp_path), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report = json.loads(out.read_text(encoding="utf-8"))
    names = {row["name"] for row in report["rows"]}
    nights = {"night", "from workers up", "next", "serial", "aggregation by two"}
    assert {*nights, *PEERS} - {"spark"} <= names
    for row in report["rows"]:
        assert row["cpu"] > 0, row["name"]
        assert row["peak"] > 10, row["name"]
        middle, least, greatest = row["wall_ratio"]
        assert 0 < least <= middle <= greatest


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_library_runs(name: str) -> None:
    simulate, prepare = TASKS[name]
    assert math.isfinite(prepare(simulate(50))())


def test_contests_are_between_tasks_that_exist() -> None:
    sections = [*of_fits(1000), *of_posteriors(1000), of_sizes((500, 1000))]
    names = {contender.name for section in sections for contender in section.contenders}
    assert names - {"500 stores", "1,000 stores"} <= set(TASKS)
    assert all(section.beside in {one.name for one in section.contenders} for section in sections)


def test_a_task_tells_what_it_cost() -> None:
    cost = inner_cost_of([sys.executable, "-m", "tests.bench.library", "orders, hbpipe", "100"])
    assert 0 < cost.wall < 60
    assert float(cost.answer) < 0


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
