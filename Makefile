# `make demo` and `make test` each do all of their own set-up; they need Python 3.11 or newer and make. With a C++17
# compiler the fused kernels are built; without one the package runs eagerly.
PYTHON ?= python3
BIN := .venv/bin
MNIST ?=

.PHONY: demo test test-slow lint types setup clean

demo: setup
	$(BIN)/hdnn train digits --output runs/demo --overwrite

test: setup
	$(BIN)/python -m pytest $(if $(MNIST),--mnist=$(MNIST))

test-slow: setup
	$(BIN)/python -m pytest -m slow $(if $(MNIST),--mnist=$(MNIST))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hdnn needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
