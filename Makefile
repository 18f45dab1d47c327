# The commands of this repository. Needs git, make and Python 3.11 or newer; everything else comes from requirements/.
# make run ARGS="--port 8001"
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run token test lint check bench kpi chaos fuzz audit sbom secrets docs rules clean

run: $(VENV)/.run
	@$(BIN)/notification-engine dev $(ARGS)

# Two workers: much of the time is waiting for servers. A file stays with one of them.
test: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# The guide's KPI table under ten minutes of mixed load; KPI=--short for one. Ends with 1 when a target is missed.
kpi: $(VENV)/.dev
	$(BIN)/python -m bench.kpi $(KPI)

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --prove
	$(BIN)/python -m tests.chaos --out var/chaos $(CHAOS)
	NETWORK_CUT_SECONDS=60 $(BIN)/pytest -s tests/integration/replicas/test_hosts.py

# The same again: make fuzz FUZZ="--seed N".
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Ends with 0 (no fault known), 1 (faults) or 3: the vulnerability service did not answer, and nothing is said.
audit: $(VENV)/.dev
	@$(BIN)/python -m tests.supply.audit

sbom: $(VENV)/.dev
	@mkdir -p var
	$(BIN)/cyclonedx-py requirements requirements/run.txt --pyproject pyproject.toml --output-reproducible -o var/sbom.json

# Takes what looks like a secret into .secrets.baseline. Look at each line that it prints first.
secrets: $(VENV)/.dev
	$(BIN)/python -m tests.supply.secrets

token: $(VENV)/.run
	@$(BIN)/notification-engine token --sub dev --role user --role service --role operator

# What comes from the code, then the site in var/site; a link that leads nowhere ends it.
docs: $(VENV)/.dev
	$(BIN)/notification-engine reference > docs/configuration.md
	$(BIN)/notification-engine reference --types > docs/types.md
	$(BIN)/notification-engine reference --metrics > docs/metrics.md
	$(BIN)/notification-engine reference --cli > docs/cli.md
	$(BIN)/zensical build --clean --strict

# The Prometheus operator's copy of deploy/prometheus/rules.yml.
rules: $(VENV)/.dev
	$(BIN)/python -m tests.deploy.prometheus_rule

clean:
	rm -rf $(VENV) var

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), once; about a minute."
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --require-hashes -r requirements/dev.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.run
