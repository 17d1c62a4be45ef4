# Each command sets itself up: a virtual environment in .venv, installed anew only when the
# dependencies change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

# What `some-tests` runs, with another PYTHON, in a virtual environment of its own.
SOME_VENV ?= .venv-some
SOME_TESTS := $(addprefix tests/space/test_,alternatives.py condition.py dimension.py names.py space.py) \
	$(addprefix tests/images/test_,modes.py orientation.py tiff.py) tests/choice tests/test_files.py \
	tests/test_plan.py tests/test_results.py tests/execution/test_scheduler.py tests/searches/test_grid.py

# One thread a test process: two processes with all threads each oversubscribe the processor.
TEST_WORKERS ?= 2

.PHONY: demo test some-tests lint docs fanova engines clean

demo: $(INSTALLED)
	$(BIN)/python examples/plot_demo.py

test: $(INSTALLED)
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n $(TEST_WORKERS)

# Enough to see that a version of Python is supported. Without torch, which pip fetches with
# several GB of CUDA packages for versions that it has no other build of.
some-tests:
	$(PYTHON) -m venv $(SOME_VENV)
	sed -n '/^install_requires/,/^$$/p' setup.cfg | grep '^ ' | grep -vE 'torch|skorch' \
		> $(SOME_VENV)/requirements.txt
	$(SOME_VENV)/bin/python -m pip install -c constraints.txt -r $(SOME_VENV)/requirements.txt \
		hypothesis pytest pytest-timeout pytest-xdist
	$(SOME_VENV)/bin/python -m pip install -c constraints.txt --no-deps -e .
	OMP_NUM_THREADS=1 $(SOME_VENV)/bin/python -m pytest -n $(TEST_WORKERS) $(SOME_TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The scripts of the gallery run, each on one thread, so that they show the same everywhere.
docs: $(INSTALLED)
	rm -rf doc/generated
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m sphinx -W --keep-going doc doc/_build/html
	$(BIN)/python doc/check_links.py doc/_build/html

# The reference implementation of functional ANOVA, for the tests that compare with it. Its build
# needs SWIG 4.0 on the PATH, and a C++ compiler; where pip isolates the build, SWIG is not found,
# and in pip's cache there may be what another SWIG has built.
fanova: $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt setuptools swig
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install -c constraints.txt \
		--no-build-isolation --no-cache-dir -e '.[fanova]'

# Dask and Ray, for the tests that run searches by them.
engines: $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dask,ray]'

# torch first and pinned: an open range would pull several GB of CUDA packages.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

# All that the commands above have made.
clean:
	rm -rf doc/_build doc/auto_examples doc/generated
	rm -rf .venv .venv-* build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
