# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help test lint bench demo clean

help:
	@echo "make test   set up .venv, check the code, run the tests"
	@echo "make demo   set up .venv, score the alerts in ALERTS with the published classifiers"
	@echo "make bench  set up .venv with the peers' packages, run every benchmark"
	@echo "make clean  remove .venv and caches"

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "acai_jax needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest

