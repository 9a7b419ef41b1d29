# Needs Python 3.11 to 3.13 (TensorFlow has no wheels for 3.14 yet) and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

.PHONY: help test fuzz lint demo docs bench clean

help:
	@echo "make test                 set up .venv, check the code, run the tests"
	@echo "make lint                 set up .venv, check the code"
	@echo "make fuzz                 set up .venv, then try ten thousands of damaged packets, signals and kills at random"
	@echo "make demo                 set up .venv, then the whole job on simulated alerts (no network)"
	@echo "make docs                 set up .venv, then the documentation in docs/_build/html (no network)"
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
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: $(INSTALLED)
	ACAI_JAX_FUZZ=1 $(BIN)/pytest tests/sweep/test_sweep.py tests/test_fuzz.py tests/test_processes.py tests/filters/test_sql.py \
		tests/stream/test_kafka.py

# simulate and package labelled alerts, train on them, evaluate; score and filter a night; then pick alerts
# of it, label them (the simulator answers), train again
demo: $(INSTALLED)
	@rm -rf demo && mkdir demo
	$(BIN)/acai-jax simulate --count 3000 --seed 0 --out demo/labelled
	$(BIN)/acai-jax package demo/labelled/alerts --labels demo/labelled/labels.csv \
		--data-dir demo/datasets
	$(BIN)/acai-jax dataset demo/datasets --out demo/card
	$(BIN)/acai-jax train --config.dataset demo/datasets --workdir demo/training \
		--config.max-epochs 15 --config.patience 5
	$(BIN)/acai-jax evaluate --model demo/training --dataset demo/datasets --split test \
		--out demo/evaluation
	$(BIN)/acai-jax simulate --count 1000 --seed 1 --out demo/night
	$(BIN)/acai-jax score demo/night/alerts --model demo/training --out demo/scores.parquet
	$(BIN)/acai-jax filter demo/scores.parquet --name early_hosted --out demo/candidates.csv
	$(BIN)/acai-jax pick demo/scores.parquet --metrics demo/evaluation/metrics.json --count 60 \
		--out demo/queue.parquet
	$(BIN)/python -m train.active --pool demo/night/alerts --truth demo/night/labels.csv \
		--workdir demo/active --rounds 1 --first 300 --count 60 --train.max-epochs 3
	@echo "pictures: demo/card/index.html demo/evaluation/report.html demo/active/rounds.html"
	@echo "tables: demo/scores.parquet demo/candidates.csv"
	@echo "label alerts yourself: $(BIN)/acai-jax label demo/queue.parquet --store demo/labels.db"

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(INSTALLED)
	@$(PIP) --editable ".[bench]" --constraint requirements.lock
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.inference
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.simulation
	$(BIN)/python -m benchmarks.reality
	$(BIN)/python -m benchmarks.dataset
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.labelling

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis demo docs/_build *.egg-info
