# Everything runs in a virtual environment that is made on first use and again whenever pyproject.toml or
# the constraints change. What is needed: make, Python 3.11 or newer with venv, access to a Python package index.
#
#   PYTHON=...  the interpreter to make the environment with     (default: the first suitable one on the PATH)
#   VENV=...    where the environment lies                       (default: .venv)
#   CONSTRAINTS=...  the versions to install                     (default: constraints.txt; or constraints-lowest.txt)
#   ARGS=...    further arguments, e.g. make test ARGS="-k breaker -x"
#   JOBS=...    how many processes share the tests; 0 for none   (default: 4)
#   KEEP=1      make demo stays open until Ctrl-C

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# The tests wait as much as they work: two processes for each of two cores.
JOBS ?= 4
RUN = "$(VENV)/bin/python" -m

# The same output in every locale.
export PYTHONUTF8 = 1

# Images of containers like to set this. The tests start hundreds of programs, each of which would compile the
# library anew: a third of what they cost.
unexport PYTHONDONTWRITEBYTECODE

# What make check leaves to make test: real backends, programs of their own, slow faults.
QUICK = "not peer and not process and not slow"

.PHONY: help environment demo check test lint format bench lines pictures constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done
	@sed -n 's/^#   \([A-Z]*=\)/    \1/p' Makefile

environment: ## make the virtual environment, if it is not up to date
	@sh scripts/environment "$(VENV)" "$(PYTHON)" "$(CONSTRAINTS)"

demo: environment ## a shop under load, reconfigured while it runs; status 3: the machine is too busy to judge
	@$(RUN) examples.shop $(if $(filter-out 0 no false,$(KEEP)),--keep) $(ARGS)

check: lint ## lint, types and the quick tests, for daily use: a few minutes
	@$(RUN) pytest -q -n $(JOBS) --dist worksteal -m $(QUICK) $(ARGS)

test: environment ## every test, against real backends where they are installed: eight to nine minutes on two cores
	@$(RUN) pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: environment ## style, format and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

format: environment ## put the code into its format
	@$(RUN) ruff check --fix-only .
	@$(RUN) ruff format .

bench: environment ## measure against the libraries called directly
	@$(RUN) benchmarks $(ARGS)

lines: environment ## count the library's lines
	@$(RUN) scripts.lines

pictures: environment ## make the documentation's pictures anew; those of real runs need prometheus
	@$(RUN) scripts.pictures $(ARGS)

constraints: environment ## write both files of constraints anew: the newest and the lowest versions
	@$(RUN) scripts.constraints

clean: ## remove everything that was made
	rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
