# `make lab` opens the notebooks, `make test` checks everything; both make the environment (.venv) on first use.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BOOK_READY := .venv/.book
# One more than there are cores, as some tests wait for processes of their own, or for a browser.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# Counting lines makes tests half as slow again, so it is done where nobody waits.
COVERAGE := $(if $(CI),--cov stdcf_lib --cov-report term:skip-covered)

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint notebooks figures book runs bench gpu attack

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: $(READY) ## make the environment alone (.venv, from pyproject.toml)

lab: $(READY) ## open the notebooks in JupyterLab, at the start page
	$(BIN)/jupyter lab notebooks/00_start.ipynb

test: $(READY) ## run every test, then every notebook against its stored outputs
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(COVERAGE)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --nbval notebooks/

lint: $(READY) ## check style, format and types, notebooks included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

notebooks: $(READY) ## execute all notebooks in order and store their outputs
	$(BIN)/python notebooks/store.py

figures: $(READY) ## redraw all figures into figures/
	$(BIN)/python -m stdcf_lib.plots

book: $(BOOK_READY) ## make a static site of the notebooks and the library's reference, to be read without a network
	$(BIN)/sphinx-build --fail-on-warning --quiet -c book -d book/_build/doctrees . book/_build/html
	touch book/_build/made
	@echo open book/_build/html/index.html

# glibc hands each step's large activations back to the kernel and then faults them in again, page by page; thresholds
# this high make it keep them: measured 42 -> 32 ms a training step.
runs: export MALLOC_MMAP_THRESHOLD_ = 4294967296
runs: export MALLOC_TRIM_THRESHOLD_ = 8589934592
runs: $(READY) ## train again everything kept in runs/ (resumes where it was stopped)
	$(BIN)/python -m stdcf_lib.experiments

bench: $(READY) ## measure speed and memory against peers
	$(BIN)/python -m benchmarks

gpu: ## measure and check training on a GPU, by PYTHON's own PyTorch, in at most 8 minutes
	$(PYTHON) -m stdcf_lib.experiments.steps

attack: $(READY) ## put faults in, kill, feed broken inputs, cut off the network: what the README promises, in an hour
	$(BIN)/python -m tests.attack

# A stamp, written last, so that an interrupted or outdated installation is taken up again.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}, and 3.11 or newer is needed; name another with: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --editable '.[lab,test]'
	touch $@

$(BOOK_READY): $(READY)
	$(BIN)/pip install --editable '.[book]'
	touch $@
