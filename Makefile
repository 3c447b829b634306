# Two commands do everything on a fresh machine with Python 3.11 or 3.12 and make:
#   make quickstart   creates the environment, installs, trains GoRL on a real task in minutes
#   make test         creates what it needs and passes the tests
# Before a release: make test-slow, which runs the tests that take minutes each, too.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest
CRASHED = .pytest_cache/crashed.txt

.PHONY: quickstart test test-slow lint audit install install-dev

quickstart: install
	$(BIN)/gorl train quickstart.gin

# A test that fails once has failed. Exit status 75 says that nothing failed but that a worker died in the compiler: the
# tests it took down run once more, in one process.
test: lint
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder || { test $$? -eq 75 && $(PYTEST) @$(CRASHED); }

# All tests, the slow ones too, with the annotations of all of gorl checked.
test-slow: install-dev
	$(PYTEST) -m "" --jaxtyping-packages=gorl,beartype.beartype -n 2 --dist loadfile --no-loadscope-reorder

lint: install-dev
	$(BIN)/ruff check gorl tests experiments
	$(BIN)/ruff format --check gorl tests experiments

audit: install-dev      # known vulnerabilities of the pinned versions; asks a service in the network
	$(BIN)/pip-audit --strict -r constraints.txt --no-deps --disable-pip --progress-spinner off

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f'gorl needs Python 3.11 or newer, this is {v.major}.{v.minor}: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed
