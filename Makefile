# Two commands, each does its own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
PEERS  ?= build/peers
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check fast peers seedling clean help

help:
	@echo "make demo      watch a swarm do a real job on this machine"
	@echo "make test      set-up, lint, types and all tests"
	@echo "make fast      the tests that need no engine"
	@echo "make peers     the tests of exports and hooks, with the trainers' own packages (2 GB in build/peers)"
	@echo "make seedling  train and evaluate the seedling again (an hour on two cores)"

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(READY)
	@$(BIN)/ramet demo $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: check
	$(BIN)/pytest -q -m "not engine" $(ARGS)

test: check
	@sh .ci/sandbox
	$(BIN)/ramet engine install
	$(BIN)/pytest -q $(ARGS)

peers:
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group dev --group peers
	$(PEERS)/bin/pytest -q tests/runtime/rollouts/export $(ARGS)

seedling: $(READY)
	$(BIN)/ramet engine install
	$(BIN)/python -m examples.train_seedling

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
