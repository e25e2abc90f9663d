# make run: everything from a fresh clone to the comparison table, which the sweep prints when it is done. make test: everything from a fresh clone to
# passed tests. RUN_ARGS and TEST_ARGS are handed on: make run RUN_ARGS="num_prompts=8", make test TEST_ARGS="-m 'not slow'"

PYTHON ?= python3
VENV ?= .venv
RUN_ARGS ?=
TEST_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# These models are small: beyond four threads the hand-over between cores costs more than it saves.
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
export OMP_NUM_THREADS ?= $(shell echo $$(( $(CORES) < 4 ? $(CORES) : 4 )))
export TOKENIZERS_PARALLELISM ?= false

# make test-peers: others' test suites over our code, transformers' own among them where they can be fetched. make wheel, make hub: what is given away.
# make test-wheel: the quick tests against the installed wheel. make test-real: tests of SmolLM2, which it fetches, and of Gemma 3 where that was fetched
# (draftproof models --fetch gemma3_270m --accept gemma, for those who accept its terms).
.PHONY: run test test-peers test-real test-wheel lint docs wheel hub setup clean

run: $(STAMP)
	$(BIN)/draftproof run experiment=default_sweep $(RUN_ARGS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TEST_ARGS)

test-peers: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m peers tests/peers $(TEST_ARGS)
	$(BIN)/python -m tests.peers.suite

test-real: $(STAMP)
	$(BIN)/draftproof models --fetch smollm2
	$(BIN)/python -m pytest -m real tests/real $(TEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps -w dist .

hub: $(STAMP)
	$(BIN)/python -m release.hub build/hub

test-wheel: $(STAMP)
	$(BIN)/python -m release.suite

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Draftproof needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
