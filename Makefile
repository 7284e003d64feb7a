# Every target sets up its own virtual environment; only Python >= 3.10 is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build is small and enough for demo and tests. For training on a GPU, install the torch for
# your CUDA instead.
TORCH ?= torch==2.13.0

.PHONY: demo test mutants package lint format docs clean

$(VENV)/.ready: pyproject.toml setup.py
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'samnet needs Python 3.10 or newer, this is ' + sys.version.split()[0])"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/samnet_demo

# Two processes of one thread each: with two threads each, they wait for each other on two cores.
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# One module: make mutants MODULES=loss
mutants: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[mutants]"
	$(BIN)/python tests/mutation/run.py $(MODULES)

# Wheel and source distribution in dist/, and every step once with the wheel, in an environment of
# its own. For another version: make package PYTHON=python3.13
package: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[package]"
	rm -rf dist build/smoke
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/smoke
	build/smoke/bin/python -m pip install --quiet $(TORCH)
	build/smoke/bin/python -m pip install --quiet dist/*.whl
	build/smoke/bin/python tests/packaging/smoke.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

# The site, in site/: site/index.html is its first page. mkdocs is of version 1, on purpose.
docs: $(VENV)/.docs
	$(BIN)/python -m samnet.plan.key_table > docs/plan_values.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
