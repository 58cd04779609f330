# Every target works alone on a fresh clone: it builds what it needs first.

VENV := .venv
BIN := $(VENV)/bin
# Without --no-input a registry that asks for a password would wait for ever.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --constraint constraints.txt
# Suites that decide whether a change is good; chaos and bench take minutes and are run on their own.
# The first runs whole systems, of which a machine of two cores bears two at once. Of the others most tests wait for other
# processes most of the time, so there is room for three; those whose modules take minutes come first, and what takes
# seconds then keeps all of them busy to the end.
SYSTEMS := $(wildcard tests/acceptance)
SUITES := $(wildcard tests/integration tests/contract tests/golden tests/unit)
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo test bench chaos faults fuzz constraints clean

help:
	@echo "make setup        build .venv with what the application needs"
	@echo "make demo         replay real purchases through a whole local system and check the result"
	@echo "make test         format, lint, types, layers, and all tests but chaos and bench"
	@echo "make bench        measure throughput, latency, recovery, audiences, exits, memory and deliveries"
	@echo "make chaos        break everything while calls come in, for CHAOS_SECONDS (600), and check the result"
	@echo "make fuzz         try bad input on every parser at the edge, for FUZZ_SECONDS (300) each"
	@echo "make faults       memory and disks that run out, killed repartitions, a Kafka away for OUTAGE_SECONDS (330)"
	@echo "make constraints  write the newest allowed versions of all dependencies to constraints.txt"
	@echo "make clean        remove .venv and all caches of this folder"

setup: $(VENV)/.setup

setup-dev: $(VENV)/.setup-dev

$(VENV)/bin/python:
	@found=; for python in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			found=$$python; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "error: Python 3.11 or newer with its venv module is needed and was not found" >&2; \
		echo "       (Debian, Ubuntu: apt-get install python3-venv; or name one: PYTHON=/path/to/python3 make)" >&2; \
		exit 2; \
	fi; \
	echo "creating $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)

# The stamps stand for "installed from these very files".
$(VENV)/.setup: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing run-time dependencies into $(VENV) (the first run takes a minute)"
	@$(PIP_INSTALL) --editable '.[embedded]'
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup
	@echo "installing what the tests need into $(VENV)"
	@$(PIP_INSTALL) --editable '.[embedded,dev]'
	@touch $@

demo: setup
	@$(BIN)/audience-sync demo

test: setup-dev
	@echo "== format"
	@$(BIN)/ruff format --check .
	@echo "== lint"
	@$(BIN)/ruff check .
	@echo "== types"
	@$(BIN)/mypy
	@echo "== layers"
	@$(BIN)/lint-imports
	@echo "== tests: $(SYSTEMS)"
	@$(PYTEST) --numprocesses 2 $(SYSTEMS)
	@echo "== tests: $(SUITES)"
	@$(PYTEST) --numprocesses 3 $(SUITES)

bench: setup-dev
	@$(BIN)/python -m tests.bench

chaos: setup-dev
	@$(BIN)/python -m tests.chaos

fuzz: setup-dev
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-300} $(BIN)/pytest -s tests/unit/fuzz

faults: setup-dev
	@$(BIN)/pytest tests/chaos

constraints: $(VENV)/bin/python
	@echo "resolving the newest allowed versions in an environment of its own (takes a minute)"
	@rm -rf build/constraints && mkdir -p build
	@$(BIN)/python -m venv build/constraints
	@build/constraints/bin/python -m pip install --quiet --no-input --disable-pip-version-check --editable '.[embedded,dev]'
	@{ head -n 1 constraints.txt; build/constraints/bin/python -m pip freeze --exclude-editable; } > build/constraints.txt
	@rm -rf build/constraints
	@mv build/constraints.txt constraints.txt
	@echo "constraints.txt is written; run make test, then commit it"

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find app schemas topics tests -name __pycache__ -type d -prune -exec rm -rf {} +
