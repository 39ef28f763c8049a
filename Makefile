# Everything is installed into .venv, from locked versions with hashes. `make run` needs
# Python 3.11+ and nothing else: Postgres comes as one of the packages.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8787
APP ?= server/demo/app.py
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test test-docker check format bench simulate soak lock clean

run: .venv/.run-installed  ## serve the demo: http://127.0.0.1:8787
	@exec $(BIN)/python -m server dev $(APP) --host $(HOST) --port $(PORT)

# The stock JavaScript clients that tests drive the server with; skipped without npm.
NPM_PROJECTS := $(if $(shell command -v npm),tests/npm examples/frontend examples/chat/page)

# Two at a time: tests mostly wait for processes that start. A file's stay together.
test: .venv/.dev-installed $(NPM_PROJECTS:%=%/node_modules)  ## all but the soak tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# On Docker: the same tests on the Postgres of testcontainers, and the Compose stack.
test-docker: .venv/.dev-installed $(NPM_PROJECTS:%=%/node_modules)
	TEST_POSTGRES=docker $(BIN)/python -m pytest -m "not soak" $(ARGS)

%/node_modules: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

check: .venv/.dev-installed  ## lint, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev-installed  ## measure, against the same work done plainly
	$(BIN)/python -m tests.benchmarks $(ARGS)

# SOAK_SECONDS and SOAK_SEED choose how long the fleet is under faults, and which ones.
soak: .venv/.dev-installed  ## the long runs
	$(BIN)/python -m pytest -m soak --timeout=7200 $(ARGS)
	$(BIN)/python -m tests.simulation
	$(BIN)/python -m tests.faults.mutants
	$(BIN)/python -m tests.wire.mutants

simulate: .venv/.dev-installed  ## 10,000 seeds of the ownership protocol, within a minute
	$(BIN)/python -m tests.simulation $(ARGS)

# The newest versions that pyproject.toml allows; the run lock is a part of the dev lock.
lock: .venv/bin/python
	$(INSTALL) uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --upgrade \
	    $(LOCK_OPTIONS) --output-file requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml --group build --constraint requirements-dev.lock \
	    $(LOCK_OPTIONS) --output-file requirements.lock
LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --quiet \
    --no-emit-index-url --no-header --no-annotate

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is too old: set PYTHON to a Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run-installed: requirements.lock pyproject.toml | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev-installed: requirements-dev.lock .venv/.run-installed
	$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
