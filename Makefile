# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test test-slow test-clients bench reference lint format lab clean help

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(STAMP)  ## Create .venv and install toxoid with its development tools.

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "toxoid needs Python 3.11 or later; not found: $(PYTHON). Try make PYTHON=python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## Audit the lab model, treat it, audit it again; report in runs/demo.
	$(BIN)/toxoid run --recipe demo --out runs/demo

test: $(STAMP)  ## Run the linters and the tests (a few minutes on two cores).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow" --cov --cov-report=term:skip-covered

test-slow: $(STAMP)  ## Run the opt-in checks: the report in a real browser (needs chromium).
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(BIN)/pytest -m slow

bench: $(STAMP)  ## Run the benchmarks, beside the peers where there are any (half an hour and more).
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench,judge,serve]'
	$(BIN)/python -m benchmarks.lab_card
	$(BIN)/python -m benchmarks.course_correction_sampling
	$(BIN)/python -m benchmarks.preference_tree
	$(BIN)/python -m benchmarks.c2_syn_scale
	$(BIN)/python -m benchmarks.contrastive_overhead
	$(BIN)/python -m benchmarks.alignment_comparison --quick
	$(BIN)/python -m benchmarks.interval_coverage --runs 1000
	$(BIN)/python -m benchmarks.large_run
	$(BIN)/python -m benchmarks.serve --quick
	$(BIN)/python -m benchmarks.adversary_versus_judge --quick
	@echo "What follows needs public data sets (TOXOID_DATA)."
	$(BIN)/python -m benchmarks.refusal_agreement
	$(BIN)/python -m benchmarks.judge --quick

test-clients: $(STAMP)  ## Run other projects' clients against the server, each in its own environment (2.6 GB).
	TOXOID_CLIENTS=.clients OMP_NUM_THREADS=1 $(BIN)/pytest tests/clients

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(STAMP)  ## Format the code.
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lab: $(STAMP)  ## Train the lab's checkpoints again from their seed (about ten minutes).
	$(BIN)/toxoid lab build --out lab-checkpoints

clean:  ## Remove what was built; keeps runs/.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage
