# Everything a newcomer types: make demo, make test. A fresh machine needs python3 (3.11 or newer), pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHARED_OUT := --numprocesses 3 --dist loadscope --no-loadscope-reorder

# Hundreds of processes are started; each would compile everything it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: screenshots demo serve test lint types unit coverage bench format clean

demo: $(STAMP)
	$(BIN)/python -m examples.demo

serve: $(STAMP)
	$(BIN)/python -m examples.demo --serve

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy
	cd tests && VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(BIN):$$PATH" \
		basedpyright --verifytypes ak_guard --ignoreexternal > ../$(VENV)/types.txt || { cat ../$(VENV)/types.txt; exit 1; }

unit: $(STAMP)
	$(BIN)/python -m pytest $(SHARED_OUT)

# The same tests, which take twice as long under measurement.
coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SHARED_OUT)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks

screenshots: $(STAMP)
	$(BIN)/python -m tests.browser.screenshots

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .import_linter_cache .hypothesis
