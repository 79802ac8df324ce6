# The two commands of the README: `make demo` and `make test`. Everything is installed into .venv of this checkout.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
STAMP := $(VENV)/.setup-done
SECONDS ?= 60
DIST ?= dist

.PHONY: demo phone test check lint types contracts docs setup peers bench bench-media bench-sip bench-hooks soak fuzz dist clean help

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(PLUGINS)
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "the package python3-venv is missing: installing it"; \
	  apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	@echo "installing into $(VENV) (once, a minute or two)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[test,lint,docs]' $(patsubst %/pyproject.toml,--editable %,$(PLUGINS))
	@touch $@

demo: $(STAMP) phone
	@exec $(BIN)/siperb demo

# The web phone's script, bundled from npm packages; does nothing when it is up to date.
phone: $(STAMP)
	@$(BIN)/python plugins/console/phone/build.py

# As many files of tests at a time as there are cores. The peers are optional: tests that need one that cannot be
# installed are skipped by name.
test: $(STAMP) phone peers
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

peers: $(STAMP)
	@tests/interop/install-peers || true
	@tests/interop/install-pesq $(BIN)/python || true

check: lint types contracts docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy
	for p in $(notdir $(patsubst %/pyproject.toml,%,$(PLUGINS))); do $(BIN)/mypy -p siperb_$$p || exit 1; done

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

bench: bench-sip bench-media bench-hooks

bench-hooks: $(STAMP)
	$(BIN)/python bench/hooks.py
	$(BIN)/python bench/metrics.py

bench-media: $(STAMP)
	$(BIN)/python bench/media.py
	$(BIN)/python bench/media_quality.py

bench-sip: $(STAMP)
	$(BIN)/python bench/sip.py
	$(BIN)/python bench/sdp.py

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz_sip.py --seconds $$(($(SECONDS) / 2))
	$(BIN)/python tests/fuzz/fuzz_fields.py --seconds $$(($(SECONDS) / 2))

# A thousand calls at a hundred a second over a leg that loses, doubles and reorders datagrams; the suite has 200. Ten
# thousand media sessions opened and closed; the suite has 300.
soak: $(STAMP)
	SIPERB_SOAK=1 $(BIN)/python -m pytest -rP tests/interop/loss tests/integration/media/test_soak.py

# Without what an earlier build left in build/: setuptools would put modules that are gone into the wheels.
dist: $(STAMP) phone
	rm -rf build plugins/*/build
	for p in . $(patsubst %/pyproject.toml,%,$(PLUGINS)); do $(BIN)/pip wheel --quiet --no-deps --wheel-dir $(DIST) $$p || exit 1; done

clean:
	rm -rf $(VENV) dist build plugins/*/build docs/_build

help:
	@echo "make demo    gateway, demo PBX and web phone on this machine"
	@echo "make test    the whole suite      make check   lint, types, import contracts, docs"
	@echo "make bench   figures beside peers make fuzz    fuzzing for SECONDS=60"
