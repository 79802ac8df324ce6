# The two commands of the README: `make demo` and `make test`. Everything is installed into .venv of this checkout.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
STAMP := $(VENV)/.setup-done
PHONE := plugins/console/src/siperb_console/static/phone.bundle.js
SECONDS ?= 60

.PHONY: demo test check lint types contracts docs setup peers bench bench-media bench-sip soak fuzz dist clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(PLUGINS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[test,lint,docs]' $(patsubst %/pyproject.toml,--editable %,$(PLUGINS))
	touch $@

demo: $(STAMP)
	$(BIN)/siperb demo

test: $(STAMP)
	$(BIN)/python -m pytest

check: lint types contracts docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy
	for p in plugins/*/src/*/; do $(BIN)/mypy --config-file pyproject.toml -p $$(basename $$p) || exit 1; done

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
