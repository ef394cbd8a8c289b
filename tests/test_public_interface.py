"""``import hbpipe`` gives the stable names and loads nothing heavy."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import hbpipe

PROBE = """
import json, sys
import hbpipe
light = sorted(set(sys.modules) & {"numpy", "scipy", "pyarrow", "deltalake", "dask", "prefect"})
names = dir(hbpipe)
hbpipe.posterior
model = sorted(set(sys.modules) & {"pyarrow", "deltalake", "dask", "prefect", "pandas"})
print(json.dumps([light, names, model]))
"""


def test_importing_loads_nothing_heavy_and_the_library_no_pipeline():
    run = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    light, names, model = json.loads(run.stdout)
    assert light == []
    assert names == ["__version__", "effects", "fit", "posterior", "read", "to_xarray"]
    assert model == []


def test_the_names_are_the_ones_they_stand_for():
    from hbpipe.model.experiment.effects import effects
    from hbpipe.model.fit import fit
    from hbpipe.model.posterior import posterior
    from hbpipe.report.datatree import to_xarray
    from hbpipe.run.releases import read

    assert hbpipe.effects is effects
    assert hbpipe.fit is fit
    assert hbpipe.posterior is posterior
    assert hbpipe.read is read
    assert hbpipe.to_xarray is to_xarray
    assert hbpipe.__version__ == version("hbpipe")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'forecast'"):
        hbpipe.forecast  # noqa: B018
