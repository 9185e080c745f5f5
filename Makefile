# make run    everything on this machine, until Ctrl-C       PORT=8000  DATA_DIR=.data
# make test   everything that guards the project             PYTEST="-k wallet"
# make help   the rest

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8000
DATA_DIR ?= .data
PYTEST ?=
ARGS ?= help

# The tests in a real browser drive Debian's.
CHROMIUM := $(shell command -v chromium)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--no-header --no-emit-index-url --upgrade pyproject.toml
# For tools that load the settings and connect to nothing.
NOWHERE := SMSACTIVATOR_ENV=development DATABASE_URL=postgresql:///nowhere REDIS_URL=redis://nowhere

.PHONY: help install run manage test lint bench format lock clean

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements-dev.txt
	@touch $@

install: $(INSTALLED) ## the virtual environment with the locked dependencies

run: $(INSTALLED) ## the whole back-office with demo traffic, until Ctrl-C (PORT=, DATA_DIR=)
	@exec $(BIN)/python -m smsactivator.devserver --port "$(PORT)" --data-dir "$(DATA_DIR)"

manage: $(INSTALLED) ## a management command on the running copy: make manage ARGS="audit_ledger"
	@test -r "$(DATA_DIR)/run.env" || { echo "Nothing runs on $(DATA_DIR): start it with make run." >&2; exit 1; }
	@. "$(DATA_DIR)/run.env" && exec $(BIN)/python manage.py $(ARGS)

test: lint ## everything that guards the project (PYTEST= passes words on)
	@test -n "$(CHROMIUM)" || echo "No chromium here: the tests in a real browser are LEFT OUT."
	$(BIN)/python -m pytest --numprocesses 2 $(if $(CHROMIUM),,-m "not browser") $(PYTEST)

lint: $(INSTALLED) ## style, types and the floors' imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(NOWHERE) $(BIN)/mypy .
	$(NOWHERE) $(BIN)/lint-imports

format: $(INSTALLED) ## bring the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## how fast refunds and the ledger are, beside other ways (ARGS="--only ledger" passes words on)
	@$(BIN)/python -c 'import hordak' 2>/dev/null || \
		$(BIN)/python -m pip install --disable-pip-version-check --quiet "django-hordak~=2.0"
	$(BIN)/python -m smsactivator.bench $(filter-out help,$(ARGS))

lock: $(INSTALLED) ## compile the locked sets anew from pyproject.toml
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove the virtual environment and caches; the data of make run stays
	rm -rf $(VENV) staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
