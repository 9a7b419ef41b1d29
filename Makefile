# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# Where real alerts and published weights lie. Without weights, they are downloaded once.
DATA ?= ../shared/data
ALERTS ?= $(wildcard $(DATA)/alerts)
WEIGHTS ?= $(wildcard $(DATA)/acai_h5)

.PHONY: help test lint demo bench clean

help:
	@echo "make test                 set up .venv, check the code, run the tests"
	@echo "make demo ALERTS=FOLDER   set up .venv, score the alerts in FOLDER, draw one of them"
	@echo "make bench                set up .venv and the peers' packages, run every benchmark"
	@echo "make clean                remove .venv, caches and the demo's output"

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else \
		"acai_jax needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.12")'
	@echo "setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --editable .
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest

demo: $(INSTALLED)
	@test -n "$(ALERTS)" || { echo "no alerts to score: make demo ALERTS=FOLDER"; exit 1; }
	@mkdir -p demo
	$(BIN)/acai-jax score $(ALERTS) $(WEIGHTS:%=--weights %) --out demo/scores.parquet --overwrite
	$(BIN)/acai-jax show $(ALERTS) $(WEIGHTS:%=--weights %) --out demo/alert.png
	@echo "score table: demo/scores.parquet   picture of the first alert: demo/alert.png"

bench: $(INSTALLED)
	@$(PIP) --editable ".[bench]" --constraint requirements.lock
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.inference
	$(BIN)/python -m benchmarks.end_to_end

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis demo *.egg-info
