PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test up lint bench clean

demo: $(VENV)/.installed
	$(BIN)/ringback demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

up: $(VENV)/.installed
	$(BIN)/ringback up

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make bench ARGS="--part a,c --seconds 10"
bench: $(VENV)/.installed
	$(BIN)/python -m bench.speed $(ARGS)

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
