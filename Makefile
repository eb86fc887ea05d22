# kaifu: every target does all its own set-up, and is quick when that is done already.
#
#   PYTHON=…   the Python to make the virtual environment with (3.11 or newer; default: the system's, else the newest one found)
#   VENV=…     where to (default: .venv)

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MILTER := $(VENV)/.milter
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo run test test-long lint bench bench-large pictures dist lock setup debian clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(READY) ## simulated mail clients, the relay and a next hop on loopback; says what happened and why
	@$(BIN)/kaifu demo

run: $(READY) ## the relay with a default configuration, and how to send the first mail through it
	@exec env BIN="$(BIN)" .ci/try-relay

test: $(READY) debian $(MILTER) ## all tests, with fixed seeds and reduced counts
	@$(PYTEST) -rs $(TESTS)

test-long: $(READY) debian $(MILTER) ## all tests with the full counts: kill loops, fuzzing, benchmarks that must hold
	@KAIFU_LONG=1 $(PYTEST) -rs -o timeout=3600 $(TESTS)

lint: $(READY) ## style, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(READY) debian $(MILTER) ## the relay and the milter beside Postfix and other milters, what the ledger costs, the screens on a million messages
	@$(BIN)/python tests/bench/relay_bench.py
	@$(BIN)/python tests/bench/milter_bench.py
	@$(BIN)/python tests/bench/ledger_rate.py --compare
	@$(BIN)/python tests/bench/tui_bench.py

bench-large: $(READY) debian ## the screens on a ledger with ten million messages; says first how much space and time it takes
	@$(BIN)/python tests/bench/tui_bench.py --than 1000000 --messages 10000000 --rounds 3

pictures: $(READY) ## the pictures of the screens in tui/pictures, drawn by the screens themselves
	@$(BIN)/python -m tests.pictures tui/pictures

dist: $(READY) ## the wheel, and what pip needs to install it on a server, in dist/
	@rm -rf dist && $(BIN)/python .ci/dist.py dist && ls dist

lock: $(READY) ## choose the versions in requirements.lock anew, from pyproject.toml (needs the network)
	@$(BIN)/python -m pip install --quiet uv
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	    --upgrade --generate-hashes --no-emit-index-url --group dev --group libmilter \
	    -o requirements.lock pyproject.toml

setup: $(READY) debian $(MILTER)

$(READY): requirements.lock pyproject.toml
	@set -e; if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	    python=$$(PYTHON="$(PYTHON)" .ci/find-python); \
	    echo "kaifu: making $(VENV) with $$python"; \
	    "$$python" -m venv --clear "$(VENV)"; \
	fi
	@echo "kaifu: installing the locked packages into $(VENV)"
	@awk '/^[a-z]/ {milter = /^pymilter==/} !milter' requirements.lock >$(VENV)/locked.txt
	@$(PIP) --require-hashes --requirement $(VENV)/locked.txt
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# What tests and benchmarks compare the milter with is compiled, against a library of Debian's; so it is left out above.
$(MILTER): $(READY) | debian
	@awk '/^[a-z]/ {milter = /^pymilter==/} milter' requirements.lock >$(VENV)/locked-milter.txt
	@if $(PIP) --require-hashes --no-build-isolation --requirement $(VENV)/locked-milter.txt; then touch $@; \
	else echo "kaifu: pymilter could not be built (see above); tests that need it are skipped"; fi

# Says what is missing when it may not install it; the tests that need it then skip.
debian: $(READY)
	@VENV="$(VENV)" .ci/debian || [ $$? -eq 1 ]

clean: ## forget the virtual environment and everything that was built
	@rm -rf "$(VENV)" build dist *.egg-info .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
