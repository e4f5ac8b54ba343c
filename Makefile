# make demo   a whole study on embedded data; prints the report's path
# make test   the tests (long ones: make test-slow); make check: lint, types, import contracts
# PYTHON names the interpreter, VENV the environment; both make their own, and a second call reuses it.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
OUT ?= radlens-demo
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(CONSTRAINTS)

.PHONY: demo test test-slow check clean

demo: $(VENV)/.radlens
	$(BIN)/radlens demo --out $(OUT)

# a process a core, each computing with one thread
test: $(VENV)/.radlens-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-slow: $(VENV)/.radlens-dev
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.radlens-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/lint-imports
	$(BIN)/python tools/write_reference.py --check

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "radlens needs Python 3.11 or newer; name one with: make demo PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.radlens: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.radlens-dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@ $(VENV)/.radlens

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
