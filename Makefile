# The words CI uses too. `make help` lists them.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 5000
DATA ?= $(CURDIR)/var/registry
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := src tests scripts benchmarks
# What runs in the tests' own process; the server and the commands run in processes of their own,
# where measuring would change what the tests measure.
MEASURED := auth config core http oci protocol state storage
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
# Asking a directory is tested with a real one; where it can't be installed those tests are skipped.
UNTESTED = $$(PATH=$$PATH:/usr/sbin; command -v slapd >/dev/null && $(BIN)/python -c 'import ldap' 2>/dev/null || \
	echo '--omit=src/dockyard/auth/directory*.py')
COVERAGE_REPORT = $(BIN)/coverage report --fail-under 98 $(UNTESTED) \
	--include '$(subst $(SPACE),$(COMMA),$(MEASURED:%=src/dockyard/%/*))'

.PHONY: help serve test test-all bench bench-report bench-collect check format lock clean

help:  ## List what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve  ## Set up, then serve on port $(PORT) with the data in $(DATA).
	@REGISTRY_HTTP_ADDR=:$(PORT) REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$(DATA) \
		exec $(BIN)/registry serve --welcome deploy/serve.yml

test: $(VENV)/.dev  ## Set up, then run every test that takes seconds, real clients included.
	scripts/install-parts
	scripts/run-tests -m "not slow"
	$(COVERAGE_REPORT)

test-all: $(VENV)/.dev  ## Like test, and what takes minutes.
	scripts/install-parts --all
	scripts/run-tests
	$(COVERAGE_REPORT)
	$(BIN)/python scripts/client_report.py results/tests.xml > docs/reference/clients.md

bench: $(VENV)/.dev  ## Measure beside docker-registry, distribution and nginx; 50 minutes. OPTIONS="--quick"
	scripts/install-parts --bench
	$(BIN)/python -m benchmarks.bench $(OPTIONS)

bench-report: $(VENV)/.dev  ## Write the figures of the last run into docs/explanation/performance.md.
	$(BIN)/python -m benchmarks.report

bench-collect: $(VENV)/.dev  ## Measure a collection of 20 000 manifests beside both; half an hour.
	scripts/install-parts --bench
	$(BIN)/python benchmarks/collect.py

check: $(VENV)/.dev  ## Format, lint, types and layers.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

format: $(VENV)/.dev  ## Format the sources.
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lock: $(VENV)/.dev  ## Write the lock files anew; needs uv.
	uv pip compile pyproject.toml --group build --universal --generate-hashes \
		--python-version 3.11 --no-emit-index-url --no-header --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --group dev --universal --generate-hashes \
		--python-version 3.11 --no-emit-index-url --no-header --quiet --output-file requirements-dev.lock
	uv pip compile pyproject.toml --extra ldap --constraint requirements.lock --universal --generate-hashes \
		--python-version 3.11 --no-emit-index-url --no-header --quiet --output-file requirements-ldap.lock

clean:  ## Remove what was set up; the data stays.
	rm -rf $(VENV) .parts .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Dockyard needs Python 3.11 or later: install it, or name it with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) can't make virtual environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.serve: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.serve
