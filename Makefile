PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test up lint clean

demo: $(VENV)/.installed
	$(BIN)/ringback demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

up: $(VENV)/.installed
	$(BIN)/ringback up

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
