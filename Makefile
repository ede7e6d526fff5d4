# make demo   trains on characters of many scripts and tests on scripts it has not seen
# make test   checks style and runs the test suite; make test-times prints what every test file costs
# make test-slow runs the long proofs; make mutants checks that the tests notice small wrong changes
# make docs   builds the documentation into docs/_build/html, without a network; warnings are errors
# make dist   builds a wheel and an sdist into dist/, and checks them
# All first make .venv with the pinned versions of constraints.txt. PYTHON=python3.12 picks another Python.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-times test-slow mutants docs dist lint format clean

demo: .venv/ready
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python -m experiments.prototypical --preset demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-times: .venv/ready
	$(BIN)/python -m pytest -m "not slow" --all-times

mutants: .venv/ready
	$(BIN)/python -m tests.mutants

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

docs: .venv/docs
	$(BIN)/python -m sphinx -b html -W --keep-going -q -d .cache/doctrees docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

dist: .venv/docs
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

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

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[dev,docs]"
	@touch $@

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache build dist docs/_build docs/generated docs/api/generated *.egg-info
