# What README and CI call, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/rocket-rain.png
# One process for each core, with one thread: two would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-long test-browser test-cluster check bench
.DEFAULT_GOAL := demo

$(VENV)/run: pyproject.toml constraints.txt
	@echo "Installing into $(VENV), about 1 GB: some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/develop: $(VENV)/run
	@echo "Adding what tests and linters need."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/run
	@echo "Restoring $(EXAMPLE): some seconds."
	$(BIN)/restore derain $(EXAMPLE) -o demo/ --overwrite
	@echo "Look at demo/$(notdir $(EXAMPLE)), beside $(EXAMPLE)."

test: $(VENV)/develop
	@echo "Testing, one process for each core: about five minutes on two."
	$(PYTEST) -m 'not long and not browser and not cluster'

test-long: $(VENV)/develop
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	$(BIN)/python -m pytest -m 'not browser'

# Needs a Chromium, such as Debian's package of that name.
test-browser: $(VENV)/develop
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -m browser

# Starts Ray clusters of three nodes, and an S3 server, on this machine.
test-cluster: $(VENV)/develop
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	$(BIN)/python -m pytest -m 'cluster and not long'

check: $(VENV)/develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m 'not long and not browser and not cluster'

bench: $(VENV)/develop
	$(BIN)/python -m benchmarks.strips
