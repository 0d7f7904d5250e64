# make demo   set everything up and run the main job: train, imagine, draw, print the table
# make test   set everything up, check style and types, run the tests with coverage
# make quick  the core of the tests in a minute: laws, ops, contracts, records, one tiny training
# make lint   style and types only
# make bench  speeds, as ratios measured in one run; make bench-gpu checks and times the Triton kernels on a GPU

PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt

QUICK := tests/backbones/test_contract.py tests/backbones/test_gru.py tests/backbones/ssm tests/kernels/test_dplr_kernel.py \
	tests/kernels/test_fft_conv.py tests/kernels/test_series.py tests/kernels/test_dispatch.py tests/dynamics/test_latents.py \
	tests/dynamics/test_latent_dynamics.py tests/dynamics/clockwork/test_clock.py tests/dynamics/clockwork/test_level.py \
	tests/test_world_model.py tests/test_registry.py tests/test_config.py tests/data/test_samplers.py tests/data/test_gates.py \
	tests/evaluation/test_record.py tests/evaluation/test_estimates.py tests/evaluation/test_tables.py \
	tests/training/test_optimiser.py tests/training/test_budget.py \
	tests/test_recipes.py::test_memory_maze_takes_two_steps

.PHONY: demo test quick test-long lint compiled bench bench-gpu clean

demo: $(VENV)/base
	$(BIN)/python recipes/memory_maze.py backbone=s4
	@echo "For the commands of README: . $(BIN)/activate"

# Every process that tests start imports PyTorch: from compiled files, also where these are switched off, and with one
# thread, as there is a worker of the tests for each core. Where Python has sys.monitoring, coverage costs next to nothing.
test: $(VENV)/dev
	$(MAKE) --jobs 2 lint compiled
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90

# What each worker of the tests would compile for itself, once, beside the type checker: the files of everything that
# tests import, and with Numba the worlds, which those two tests call.
compiled: $(VENV)/dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=2 -k compiled_and_interpreted

quick: $(VENV)/dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=0 --durations-min=2 $(QUICK)

test-long: $(VENV)/dev
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest

lint: $(VENV)/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.raycast
	$(BIN)/python -m benchmarks.grid
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.s4
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.clockwork
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.maze3d

bench-gpu: $(VENV)/base
	$(PIP) --editable ".[gpu]"
	$(BIN)/python -m benchmarks.gpu

$(VENV)/python:
	@test -n "$(PYTHON)" || { echo "wmkit needs Python 3.11 or 3.12; none was found. Name one: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/base: pyproject.toml constraints.txt | $(VENV)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/python
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/base

clean:
	rm -rf $(VENV) build dist *.egg-info
