# `make` lists what there is. Nothing is installed twice: the stamps in .venv say what is there.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
# The first of these that is Python 3.11 or newer; `make PYTHON3=/path/to/python3.12 up` takes another.
PYTHON3 ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
# Tests start hundreds of processes, each of which would compile every module that has changed: Python keeps what it compiled.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -m pytest --dist worksteal -q
# A third of the time of all tests passes in waiting for servers that start and processes that die.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 3 / 2)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PYTHON) -m pip --quiet

.PHONY: help
help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: $(VENV)/run ## Take rows at 127.0.0.1:8080 and files from inbox/ (ARGS="--address 127.0.0.1:9000")
	@exec $(VENV)/bin/penstock up $(ARGS)

.PHONY: setup
setup: $(VENV)/dev ## Install everything for development in .venv

.PHONY: servers
servers: $(VENV)/dev ## Install the servers that tests need, where that is possible
	$(PYTHON) -m penstock.testing.servers install

.PHONY: test
test: $(VENV)/dev ## Run all tests, in three processes for two processors (ARGS="-k file")
	@$(PYTHON) -m penstock.testing.servers install || echo "Tests that need this server are skipped."
	$(PYTEST) -n $(WORKERS) $(ARGS)

.PHONY: quick
quick: $(VENV)/dev ## Run the tests that need no server and kill nothing (ARGS="-k file")
	$(PYTEST) -n $(WORKERS) -m "not server and not crash and not slow" $(ARGS)

.PHONY: test-locked
test-locked: $(VENV)-locked/ready ## Run the tests of the core with what users install, and nothing else but pytest
	$(subst $(VENV)/,$(VENV)-locked/,$(PYTEST)) -n auto -m "not server and not crash" \
		$(addprefix tests/,runtime buffers codecs processors inputs outputs state serving) $(ARGS)

.PHONY: screenshots
screenshots: $(VENV)/dev ## Keep a picture of each view of the console, at both widths in both themes (FOLDER=screenshots)
	@mkdir -p $(or $(FOLDER),screenshots)
	PENSTOCK_SCREENSHOTS=$(abspath $(or $(FOLDER),screenshots)) $(PYTEST) tests/apps/console/test_accessible.py

.PHONY: check
check: $(VENV)/dev ## Check format, lint, types, layers and the reference pages
	$(VENV)/bin/ruff check --no-cache
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) -m penstock.config.reference docs/reference --check
	.ci/check-commits

.PHONY: format
format: $(VENV)/dev ## Format the code, and mend what the linter can mend
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

.PHONY: reference
reference: $(VENV)/dev ## Write docs/reference from the declarations of the components
	$(PYTHON) -m penstock.config.reference docs/reference

.PHONY: bench
bench: $(VENV)/dev ## Measure, and print a table with the hardware
	$(PYTHON) -m benchmarks $(ARGS)

.PHONY: lock
lock: $(VENV)/dev ## Resolve the dependencies anew, with hashes, for Python 3.11 and later
	$(LOCK) pyproject.toml --extra all --extra build -o requirements.lock
	$(LOCK) pyproject.toml --all-extras --group runner -c requirements.lock -o requirements-dev.lock
	$(LOCK) --group runner -c requirements-dev.lock -o requirements-test.lock

LOCK = $(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate

$(VENV)-locked/ready: requirements.lock requirements-test.lock pyproject.toml | $(VENV)/run
	@$(VENV)/bin/python -m venv $(VENV)-locked
	@$(VENV)-locked/bin/python -m pip --quiet install --require-hashes -r requirements.lock -r requirements-test.lock
	@$(VENV)-locked/bin/python -m pip --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: clean
clean: ## Remove .venv and all caches; data and inbox stay
	rm -rf $(VENV) $(VENV)-locked dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	@[ -n "$(PYTHON3)" ] || { echo "Penstock needs Python 3.11 or newer, with venv; none is found as python3." \
		"On Debian: apt-get install python3 python3-venv. Or: make PYTHON3=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON3) -m venv $(VENV)

$(VENV)/run: requirements.lock pyproject.toml | $(PYTHON)
	@echo "Installing what Penstock needs in $(VENV), once; this takes a minute or two"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PYTHON) -m compileall -q src # as pip does, for those who let Python write no bytecode when it runs
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
