# What README and CI call, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/rocket-rain.png

.PHONY: demo test test-long check bench
.DEFAULT_GOAL := demo

$(VENV)/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/develop: $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/run
	$(BIN)/restore derain $(EXAMPLE) -o demo/ --overwrite

test: $(VENV)/develop
	$(BIN)/python -m pytest -m 'not long'

test-long: $(VENV)/develop
	$(BIN)/python -m pytest

check: $(VENV)/develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'not long'

bench: $(VENV)/develop
	$(BIN)/python -m benchmarks.memory
