# make run         start a server with demo accounts and mail, on loopback
# make test        every test, with branch coverage;  make test ARGS="tests/wire -x" for a part
# make test-long   also those that take minutes
# make crash       kills, power cuts, bad disks and clocks, at full size; as root, for mounting
# make fuzz        every parser with a million inputs (N=1000), and what hostile mail costs
# make stress      floods, silence, slowness and guessing at full size; fifteen minutes
# make check       ruff, mypy, who imports whom, citations
# make format      what ruff can put right by itself
# make bench       repeatable measurements
# make clean       remove what the above made, except ./var (the demo's data)

PYTHON ?= python3
VENV   ?= .venv
# Tests that run side by side: as many as there are processors, but at most four.
JOBS   ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); \
             [ $$n -le 4 ] && echo $$n || echo 4)
ARGS   ?=
N      ?= 1000000
EXTRAS ?= test
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test test-long crash fuzz stress check format bench clean

run: $(VENV)/installed
	@exec $(BIN)/mailctl demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report= $(or $(ARGS),--branch-floor=90)

test-long: $(VENV)/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --long $(ARGS)

crash: $(VENV)/installed-test
	$(BIN)/python -m tests.crash --json build/crash.json $(ARGS)
	$(BIN)/python -m pytest --long tests/crash/test_power.py \
	    tests/store/test_verify.py tests/store/test_repair.py tests/store/test_backup.py

fuzz: $(VENV)/installed-test
	@mkdir -p build
	$(BIN)/python -m tests.fuzz --hostile --json build/hostile.json
	$(BIN)/python -m tests.fuzz -n $(N) --json build/fuzz.json $(ARGS)

stress: $(VENV)/installed-test
	$(BIN)/python -m tests.stress --json build/stress.json $(ARGS)

check: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py tests/test_citations.py

format: $(VENV)/installed-check
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/installed-test
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .coverage .coverage.* htmlcov _trial_temp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

# The environment. Each stamp is older than setup.cfg only when the dependencies may have
# changed, so a second `make run` starts at once.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "mailserver needs Python 3.11 or newer; '$(PYTHON)' is" \
	         "$$($(PYTHON) --version 2>&1 || true). Try: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "'$(PYTHON)' has no venv module; on Debian: apt-get install python3-venv" >&2; \
	    exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/installed-check: $(VENV)/installed-test
	$(PIP) install --editable '.[$(EXTRAS),check]'
	@touch $@
