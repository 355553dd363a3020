PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Each of the processes that tests start, some hundred, would compile all code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-rq up lint docs bench lock sbom audit digests fuzz clean

# One command of pip: the server needs `ringback`, which is the folder client/ and no package of the
# registry.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -e ./client

demo: $(VENV)/.installed
	$(BIN)/ringback demo

# A file runs in one process; tests/conftest.py gives the order, the longest first.
# Three processes on two cores: more than half of its time a test of a stack waits.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.developer
	$(PYTEST)

# Unit and contract tests: all that needs no running stack and searches no fault, in under a minute.
test-fast: $(VENV)/.developer
	$(PYTEST) -m "not stack and not search"

# RQ's own tests, out of its source distribution, with our worker class; docs/internals/rq.md.
# Port 6379 must be free.
test-rq: $(VENV)/.developer
	rm -rf build/rq
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --no-binary rq --dest build/rq \
		rq==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("rq"))')
	tar -xzf build/rq/rq-*.tar.gz -C build/rq --strip-components 1
	$(BIN)/python tests/workers/rq_suite.py build/rq $(ARGS)

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

# What the image installs, with hashes: adds what setup.cfg asks for, and keeps the other versions.
# `make lock ARGS=--upgrade` takes the newest of all.
UV := $(BIN)/uv pip compile --quiet --no-config --no-header --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links $(ARGS)
lock: $(VENV)/.supply
	mkdir -p build
	$(BIN)/python deploy/lock.py > build/requirements.in
	$(UV) --output-file requirements.lock build/requirements.in
	echo 'setuptools>=77' > build/build.in
	$(UV) --output-file deploy/docker/build.lock build/build.in

# The software bill of materials of the image's Python packages (CycloneDX), to publish with a release.
sbom: $(VENV)/.supply
	mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --output-reproducible \
		--output-file build/ringback-server.cdx.json

# Known vulnerabilities of what the image installs.
audit: $(VENV)/.supply
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict --timeout 10 \
		--vulnerability-service osv

# Pins the images of Dockerfile and compose.yml by their digests of today. Needs Docker and the registry.
digests:
	sh deploy/digests.sh

# A long search for faults. make fuzz FUZZ_SECONDS=3600 FUZZ_SEED=7; docs/internals/fuzzing.md.
fuzz: $(VENV)/.developer
	$(INSTALL) -e '.[test,fuzz]'
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m tests.fuzz

$(VENV)/.installed: setup.cfg pyproject.toml client/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(INSTALL) --no-compile -e '.[test,docs]'
	touch $@

$(VENV)/.supply: $(VENV)/.installed
	$(INSTALL) -e '.[supply]'
	touch $@

clean:
	rm -rf $(VENV)
