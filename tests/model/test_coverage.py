"""Nominal 95 % intervals cover, in a short version of the study; plug-in ones do not."""

import pytest
from strategies import ON_A_GRID

from hbpipe.model.coverage import study as study_module
from hbpipe.model.coverage.__main__ import main
from hbpipe.model.coverage.designs import DESIGNS
from hbpipe.model.coverage.mixtures import MIXTURES
from hbpipe.model.coverage.study import study
from hbpipe.model.families import FAMILIES

pytestmark = pytest.mark.long

#: (stores, signal ratio, replicates): no spread to speak of, the hard middle, and plain sight.
CELLS = [(10, 0.05, 60), (10, 4.0, 90), (50, 0.25, 30), (200, 0.25, 15)]


def test_every_design_is_of_a_family():
    assert set(DESIGNS) <= set(FAMILIES)
    assert {design.family for design in MIXTURES.values()} <= set(FAMILIES)


@pytest.mark.parametrize(("groups", "ratio", "replicates"), CELLS)
@pytest.mark.parametrize("family", DESIGNS)
def test_auto_covers_with_default_hyperpriors(family, groups, ratio, replicates):
    # A pool that is integrated by importance sampling takes longer than one on a grid.
    few = min(replicates, max(20, replicates // 4))
    pools = replicates if family in ON_A_GRID else few
    (cell,) = study(family, groups, ratio, replicates=pools, seed=11, methods=["auto"])
    # The floor of the full study; errors here are larger.
    assert cell.coverage + 2 * cell.error > 0.94
    assert cell.error < 0.02
    assert cell.length > 0.95


@pytest.mark.parametrize("design", MIXTURES)
def test_mixtures_cover_in_chains_of_two_laws(design):
    (cell,) = study(design, 200, 1.0, replicates=3, seed=11, methods=["auto"])
    assert cell.coverage > 0.92
    assert cell.length > 0.95


@pytest.mark.parametrize("family", DESIGNS)
def test_plug_in_does_not_cover_where_the_spread_is_uncertain(family):
    (cell,) = study(family, 10, 0.25, replicates=40, seed=11, methods=["plug_in"])
    assert cell.coverage < 0.75


def test_a_mutant_with_intervals_a_tenth_too_narrow_is_caught(monkeypatch):
    update = study_module.update_pools

    def narrower(*arguments, **options):
        columns = update(*arguments, **options)
        columns.quantiles[:] = columns.mean[:, None] + 0.9 * (
            columns.quantiles - columns.mean[:, None]
        )
        return columns

    monkeypatch.setattr(study_module, "update_pools", narrower)
    (cell,) = study("normal", 50, 4.0, replicates=20, seed=11, methods=["auto"])
    assert cell.coverage < 0.93


def test_a_cell_ends_when_its_error_is_small_enough():
    (cell,) = study("normal", 10, 4.0, replicates=200, seed=11, methods=["auto"], error=0.5)
    assert cell.pools < 200


def test_the_command_prints_a_line_per_cell(capsys):
    cell = ["--families", "normal", "--groups", "10", "--ratios", "1", "--replicates", "5"]
    assert main([*cell, "--seed", "2", "--methods", "plug_in,auto"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert "coverage" in header
    assert [line.split()[3] for line in lines] == ["plug_in", "auto"]
    assert all(0.0 <= float(line.split()[4]) <= 1.0 for line in lines)


def test_cells_do_not_depend_on_the_number_of_processes(capsys):
    cells = ["--families", "normal", "--groups", "10", "--ratios", "1,4", "--replicates", "5"]
    printed = []
    for jobs in ("1", "2"):
        assert main([*cells, "--methods", "auto", "--jobs", jobs]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 3


def test_the_command_fails_below_its_floor(capsys):
    cell = ["--families", "normal", "--groups", "10", "--ratios", "1", "--replicates", "5"]
    assert main([*cell, "--methods", "auto", "--floor", "0.5"]) == 0
    assert main([*cell, "--methods", "auto", "--floor", "1.5"]) == 1
    assert "1 cell(s) of auto" in capsys.readouterr().err
