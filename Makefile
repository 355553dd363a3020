PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast up lint docs bench clean

demo: $(VENV)/.installed
	$(BIN)/ringback demo

# A file runs in one process; tests/conftest.py gives the order, the longest first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.developer
	$(PYTEST)

# Unit and contract tests: all that needs no running stack, in under a minute.
test-fast: $(VENV)/.developer
	$(PYTEST) -m "not stack"

up: $(VENV)/.installed
	$(BIN)/ringback up

lint: $(VENV)/.developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in build/site; a link that leads nowhere fails.
docs: $(VENV)/.developer
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# make bench ARGS="--part a,c --seconds 10"
bench: $(VENV)/.developer
	$(BIN)/python -m bench.speed $(ARGS)

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[client]'
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,docs]'
	touch $@

clean:
	rm -rf $(VENV)
