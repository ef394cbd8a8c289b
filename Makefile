# Everything starts from Python 3.11 or newer and make; each target prepares what it needs.

# The first of these that is new enough, unless the caller names one.
PYTHON ?= $(or $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(name) -c 'import sys; sys.version_info < (3, 11) or print("$(name)")' 2>/dev/null))),\
  python3)
REFERENCE ?= ../shared/reference
REPLICATES ?= 400
ERROR ?= 0.004
STORES ?= 10,20,50,200,1000
SAMPLED_STORES ?= $(STORES)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# Also as constraints: pip 23 does not see that the pin of a package holds with its extras too.
LOCKED := $(PIP) --require-hashes --requirement requirements.lock --constraint requirements.lock
INSTALLED := $(VENV)/installed
# Spark's packages lie apart: nothing else needs them, and they are larger than all others.
SPARK := .spark
# Packages for Linux on ARM lack it; there it is the system's.
SHELLCHECK = $(or $(wildcard $(BIN)/shellcheck),shellcheck)

ON_A_GRID := normal,normal_weighted,normal_known_variance,beta_binomial,gamma_poisson
SAMPLED := normal_regression,normal_inverse_gamma,hurdle_lognormal,local_level
# Refits take long, and five hyperparameters longer: fewer pools.
GRIDS := normal_known_variance+grid,beta_binomial+grid,gamma_poisson+grid
GRIDS := $(GRIDS),normal_known_variance+grid_one_law,beta_binomial+grid_one_law
GRIDS := $(GRIDS),gamma_poisson+grid_one_law
GRID_STORES ?= 20,50
MIXTURES := normal_known_variance+mixture,beta_binomial+mixture,gamma_poisson+mixture
COVERAGE = OMP_NUM_THREADS=1 $(BIN)/python -m hbpipe.model.coverage --ratios 0.05,0.25,1,4 --seed 1 \
  --replicates $(REPLICATES) --error $(ERROR) --methods auto --floor 0.94 --jobs 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo retail test test-long test-browser test-services test-reference test-history test-spark coverage bench lint format lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Make .venv from the hash-locked dependencies (PYTHON=python3.12 to choose)

# Made again when the lock changes; nothing comes from outside the lock, the build tool included.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "hbpipe needs Python 3.11 or newer, found: $$($(PYTHON) --version 2>/dev/null || echo none)." >&2; \
	  echo "Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python has no venv module. Debian and Ubuntu: apt install python3-venv." >&2; \
	  echo "Or name another: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the packages of requirements.lock into $(VENV); once, about a minute."
	@if [ -t 1 ]; then terminal=1; else terminal=0; fi; \
	  { $(LOCKED) 2>&1 || echo 'pip failed'; } | \
	  tee $(VENV)/install.log | awk -v terminal=$$terminal -v total=$$(grep -c == requirements.lock) '\
	    /^(Collecting|Processing|Requirement)/ && terminal { \
	      printf "\r  %d of about %d packages", ++n, total; fflush() } \
	    /^Installing collected/ && terminal { printf "\r  unpacking them            "; fflush() } \
	    { last = $$0; if (/^ERROR|^error/) print > "/dev/stderr" } \
	    END { if (terminal) printf "\r%30s\r", ""; if (last == "pip failed") { \
	      print "pip failed; all it said is in $(VENV)/install.log" > "/dev/stderr"; exit 1 } }'
	@PYTHONWARNINGS=ignore $(PIP) --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

demo: $(INSTALLED) demo/truth/days.parquet  ## Run one night on simulated events: Prefect flow, local Dask cluster
	@env -u PREFECT_API_URL PREFECT_HOME=$(CURDIR)/demo/.prefect \
	  $(BIN)/python -m flows.nightly --config configs/demo.yaml

# Simulated once: the second demo finds the same files, and so nothing to do.
demo/truth/days.parquet: | $(INSTALLED)
	@rm -rf demo/events demo/truth demo/stores.parquet
	$(BIN)/hbpipe simulate demo --first-day 2026-01-01 --late 0.01 --bad 0.002 --repeated 0.01

retail: $(INSTALLED) retail/events/cheese.parquet  ## Run one night on real weekly cheese sales of 88 retailers
	$(BIN)/hbpipe run --config configs/retail.yaml

retail/events/cheese.parquet: tests/golden/cheese/data.csv configs/retail_events.py | $(INSTALLED)
	$(BIN)/python configs/retail_events.py $< $@

test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest

test-long: $(INSTALLED)  ## Run the tests that take long: brute force, simulation, other programs
	$(BIN)/python -m pytest -m long

test-browser: $(INSTALLED)  ## Open reports in headless Chromium
	@$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m pytest --numprocesses=0 -m browser tests/browser

test-services: $(INSTALLED)  ## Run a night on PostgreSQL, a Prefect server and a Dask cluster, as processes
	@$(BIN)/python tests/services/postgres.py
	$(BIN)/python -m pytest --numprocesses=0 --exitfirst -m services tests/services

test-reference: $(INSTALLED)  ## Compare with other software's answers (REFERENCE=folder)
	@test -d '$(REFERENCE)' || { \
	  echo "No reference folder $(REFERENCE); name it: make test-reference REFERENCE=folder" >&2; exit 1; }
	REFERENCE=$(abspath $(REFERENCE)) $(BIN)/python -m pytest -m 'reference or not reference' \
	  tests/reference tests/model/test_golden_fit.py tests/model/test_golden_posterior.py \
	  tests/model/test_golden_regression.py tests/full_bayes

test-history: $(INSTALLED)  ## Backfill a year of 2,000 stores, killed three times (minutes)
	$(BIN)/python -m pytest -m history tests/history

test-spark: $(SPARK)/installed  ## Read a release with Spark: 450 MB of packages, and Java
	SPARK_PACKAGES=$(CURDIR)/$(SPARK) $(BIN)/python -m pytest --numprocesses=0 -m spark \
	  tests/test_readers_of_other_tools.py

# Built from its source by the locked setuptools of .venv.
$(SPARK)/installed: requirements-spark.lock $(INSTALLED)
	@java -version >/dev/null 2>&1 || { \
	  echo "Spark needs Java 17 or newer. Debian and Ubuntu: apt install default-jre-headless" >&2; exit 1; }
	@rm -rf $(SPARK)
	@echo "Installing the packages of requirements-spark.lock into $(SPARK); once, some minutes."
	@$(PIP) --quiet --require-hashes --no-deps --no-build-isolation --target $(SPARK) \
	  --requirement requirements-spark.lock
	@touch $@

coverage: $(INSTALLED)  ## Measure how often intervals hold the truth (STORES, ERROR)
	$(COVERAGE) --groups $(STORES) --families $(ON_A_GRID)
	$(COVERAGE) --groups $(SAMPLED_STORES) --families $(SAMPLED)
	$(COVERAGE) --groups $(GRID_STORES) --families $(GRIDS) --floor 0.92
	$(COVERAGE) --groups 50 --ratios 1,4 --replicates 12 --families $(MIXTURES) --floor 0.92

bench: $(INSTALLED)  ## Measure hbpipe beside DuckDB, Polars, scipy, NUTS... (BENCH=options)
	$(BIN)/python -m tests.bench $(BENCH)

lint: $(INSTALLED)  ## Check style, types and layout; infra/ too, without a container engine
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint infra/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec infra/compose.yaml
	$(BIN)/yamllint --strict .yamllint configs infra
	$(SHELLCHECK) .ci/run infra/*.sh

format: $(INSTALLED)  ## Mend style where that is safe
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(INSTALLED)  ## Resolve requirements.lock and requirements-spark.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --extra dev \
	  --generate-hashes --no-emit-index-url --custom-compile-command \
	  "make lock (install: pip install --require-hashes -r requirements.lock -c requirements.lock)" \
	  --upgrade --quiet --output-file requirements.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --group spark --generate-hashes \
	  --no-emit-index-url --custom-compile-command "make lock (install: make test-spark)" \
	  --upgrade --quiet --output-file requirements-spark.lock

clean:  ## Remove what demo, retail and the tools left; .venv stays
	rm -rf demo retail build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
