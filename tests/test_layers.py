"""The rules of the house, as tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What each part may import beside the standard library; the longest path counts. Of hbpipe, a
#: name stands for that module, and ``name.*`` for everything in it.
MAY_IMPORT = {
    "hbpipe/errors.py": "",
    "hbpipe/model": "numpy scipy hbpipe.errors hbpipe.model.*",
    "hbpipe/full_bayes": "numpy scipy jax numpyro hbpipe.errors hbpipe.model.* hbpipe.full_bayes.*",
    "hbpipe/data": "numpy pyarrow deltalake hbpipe.errors hbpipe.model.family "
    "hbpipe.model.decay hbpipe.model.dispersion hbpipe.model.families hbpipe.model.kish "
    "hbpipe.model.numerics.grouped hbpipe.model.weights hbpipe.data.*",
    "hbpipe/typed.py": "pydantic hbpipe.data.parsing hbpipe.data.survival",
    "hbpipe/sections.py": "pydantic hbpipe.errors hbpipe.data.quantities hbpipe.typed",
    "hbpipe/audit_sections.py": "pydantic hbpipe.data.spelling hbpipe.sections hbpipe.typed",
    "hbpipe/observe_sections.py": "pydantic hbpipe.sections hbpipe.typed",
    "hbpipe/retention_sections.py": "pydantic hbpipe.sections hbpipe.typed",
    "hbpipe/setting_checks.py": "hbpipe.data.quantities hbpipe.data.reconcile "
    "hbpipe.data.spelling hbpipe.model.family hbpipe.model.nested.names hbpipe.sections",
    "hbpipe/layers.py": "yaml hbpipe.errors hbpipe.data.spelling",
    "hbpipe/config.py": "pydantic hbpipe.audit_sections hbpipe.errors hbpipe.data.parsing "
    "hbpipe.data.quantities hbpipe.data.spelling hbpipe.layers hbpipe.observe_sections "
    "hbpipe.retention_sections hbpipe.sections hbpipe.setting_checks hbpipe.typed "
    "hbpipe.data.survival",
    "hbpipe/run": "numpy pyarrow yaml hbpipe.errors hbpipe.config hbpipe.audit_sections "
    "hbpipe.model.* hbpipe.full_bayes.* hbpipe.data.* hbpipe.report.* hbpipe.run.*",
    "hbpipe/run/engine.py": "dask distributed hbpipe.errors hbpipe.config hbpipe.run.tasks",
    "hbpipe/observe": "pyarrow prometheus_client opentelemetry hbpipe.errors hbpipe.config "
    "hbpipe.observe_sections hbpipe.data.* hbpipe.run.* hbpipe.observe.*",
    "hbpipe/report/datatree.py": "numpy pyarrow xarray hbpipe.errors",
    "hbpipe/report/shrinkage.py": "numpy pyarrow matplotlib hbpipe",
    "hbpipe/report": "numpy pyarrow rich hbpipe.errors hbpipe.config hbpipe.data.* hbpipe.run.* "
    "hbpipe.report.*",
    "hbpipe/commands": "pyarrow hbpipe.*",
    "hbpipe/verbs": "hbpipe.verbs.*",
    "hbpipe/start.py": "",
    "hbpipe/cli.py": "hbpipe.errors hbpipe.start hbpipe.verbs.*",
    "hbpipe/__init__.py": "hbpipe.model.* hbpipe.report.datatree hbpipe.run.*",
    "flows": "prefect pydantic pydantic_core hbpipe.* flows.*",
}

#: What nobody imports, and why.
NOBODY_IMPORTS = {
    "pandas": "tables are Arrow tables",
    "pickle": "reading a pickle runs code; state is JSON and Parquet",
    "cloudpickle": "as pickle",
    "dill": "as pickle",
    "shelve": "as pickle",
    "marshal": "as pickle",
}

#: Importing the left loads none of the right.
STAYS_LIGHT = {
    "hbpipe": "numpy scipy pyarrow deltalake dask distributed prefect pydantic",
    "hbpipe.model": "pyarrow deltalake dask distributed prefect pydantic",
    "hbpipe.model.fit": "pyarrow deltalake dask distributed prefect pydantic",
    "hbpipe.full_bayes.audit": "jax numpyro pyarrow deltalake dask distributed prefect pydantic",
    "hbpipe.run.engine": "dask distributed prefect",
    "hbpipe.cli": "scipy dask distributed prefect",
}

#: About 40 lines a function, its docstring not counted, and about 300 a file; a tenth is grace.
FUNCTION_LINES = 44
FILE_LINES = 330

SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("hbpipe", "flows")
    for path in (ROOT / folder).rglob("*.py")
)
ALL_SOURCES = sorted([*SOURCES, *(p.relative_to(ROOT) for p in (ROOT / "configs").rglob("*.py"))])


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports name their module in full"
            yield node.module or ""
            # `from hbpipe.model import fit` imports a module, not only a name.
            yield from (
                f"{node.module}.{alias.name}"
                for alias in node.names
                if is_module(f"{node.module}.{alias.name}")
            )


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def permitted(name: str, allowed: list[str]) -> bool:
    package, _, _ = name.partition(".")
    if package in sys.stdlib_module_names or package in allowed:
        return True
    subtrees = tuple(entry.removesuffix("*") for entry in allowed if entry.endswith(".*"))
    # `from hbpipe.model import family` names the package first.
    on_the_way = any(entry.startswith(f"{name}.") for entry in allowed)
    return name in allowed or f"{name}.".startswith(subtrees) or on_the_way


def layer_of(path: Path) -> str:
    found = [part for part in MAY_IMPORT if path.is_relative_to(part)]
    assert found, f"{path} is in no layer of MAY_IMPORT"
    return max(found, key=len)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_layer_imports_only_what_lies_below_it(path: Path) -> None:
    allowed = MAY_IMPORT[layer_of(path)].split()
    foreign = {name for name in imported(path) if not permitted(name, allowed)}
    assert not foreign, f"{path} may import {allowed}"


@pytest.mark.parametrize("path", ALL_SOURCES, ids=str)
def test_nobody_imports_what_the_house_refuses(path: Path) -> None:
    found = {name.partition(".")[0] for name in imported(path)} & NOBODY_IMPORTS.keys()
    assert not found, [f"{name}: {NOBODY_IMPORTS[name]}" for name in found]


def test_families_do_not_import_each_other() -> None:
    families = ROOT / "hbpipe/model/families"
    names = [path.stem for path in families.glob("*.py") if path.stem != "__init__"]
    assert names, "there are families"
    for name in names:
        others = {f"hbpipe.model.families.{other}" for other in names if other != name}
        assert not others & set(imported(Path(f"hbpipe/model/families/{name}.py"))), name


@pytest.mark.parametrize(("module", "heavy"), STAYS_LIGHT.items(), ids=list(STAYS_LIGHT))
def test_importing_stays_light(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print(*(set({heavy.split()}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize("path", ALL_SOURCES, ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= FILE_LINES, f"{path} has {lines} lines: find the idea that splits it"
    functions = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name: length(node) for node in functions if length(node) > FUNCTION_LINES}
    assert not long, f"{path}: one idea each"


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None or first.end_lineno is None:
        return lines
    return lines - (first.end_lineno - first.lineno + 1)
