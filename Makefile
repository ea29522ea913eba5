# A newcomer's commands. Everything they make is .venv/ and runs/; remove both to start afresh.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/sagan_fashion.py
OUT ?= runs/$(notdir $(basename $(RECIPE)))
ARGS ?=
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
CONFIG ?= launch/accelerate/$(if $(filter 0,$(GPUS)),cpu_2,$(if $(filter 1,$(GPUS)),one_gpu,one_node)).yaml

# Files of tests that run at the same time; each may start several processes.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help env dev train review test lint clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e .
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # pip uses one processor; packages hold templates, no Python
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

env: $(VENV)/.installed  ## build the environment in .venv

dev: $(VENV)/.installed-dev

train: env  ## train the quick start on 2 processes; again: continue
	$(BIN)/accelerate launch --config_file $(CONFIG) $(RECIPE) --out $(OUT) \
		--log-every-images 1k --sample-every-images 3k --save-every-images 6k $(ARGS)

review: env  ## open MLflow on the run
	$(BIN)/framework review $(OUT)

test: dev  ## run the tests
ifeq ($(ARGS),)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m alone tests/faults
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/golden tests
else
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)
endif

lint: dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove caches (not .venv and runs)
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist
