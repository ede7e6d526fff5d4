# make demo   trains on characters of many scripts and tests on scripts it has not seen
# make test   checks style and runs the test suite; make test-times prints what every test file costs
# make test-slow runs the long proofs; make mutants checks that the tests notice small wrong changes
# Both first make .venv with the pinned versions of constraints.txt. PYTHON=python3.12 picks another Python.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-times test-slow mutants lint format clean

demo: .venv/ready
	$(BIN)/python -m experiments.prototypical --preset demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-times: .venv/ready
	$(BIN)/python -m pytest -m "not slow" --all-times

mutants: .venv/ready
	$(BIN)/python -m tests.mutants

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --quiet

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "metajax needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache build *.egg-info
