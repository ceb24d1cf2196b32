# Two commands do all set-up: `make bench` measures, `make test` tests. Both create .venv once. `make why` looks for causes.
# `make test-fast` tests all that needs neither TensorFlow nor a browser.
# PYTHON=python3.12 picks another interpreter; ARGS="..." is passed on to pytest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where nvidia-smi answers, TensorFlow is installed with its CUDA libraries.
CUDA := $(shell nvidia-smi >/dev/null 2>&1 && echo ,cuda)

# A file of tests is for one of two processes. Those that need TensorFlow come first (tests/conftest.py).
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: bench why test test-fast check clean

bench: $(VENV)/.installed
	$(BIN)/pytest bench/ --benchmark-compare --benchmark-autosave --mp-report=report.html $(ARGS)

why: $(VENV)/.installed
	$(BIN)/pytest bench/ --mp-why --benchmark-json=why.json --mp-report=why.html $(ARGS)

test: $(VENV)/.installed
	$(BIN)/pytest tests/ $(SIDE_BY_SIDE) $(ARGS)

test-fast: $(VENV)/.installed
	$(BIN)/pytest tests/ -m "not tensorflow and not browser" $(SIDE_BY_SIDE) $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/actionlint -config-file .github/actionlint.yaml -shellcheck $(BIN)/shellcheck .github/workflows/*.yml

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"Python {v[0]}.{v[1]}: valid are 3.10 to 3.13 (make PYTHON=python3.12 ...)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test$(CUDA)]'
	touch $@

clean:
	rm -rf $(VENV)
