# Every target makes the virtual environment first when it is missing or when the requirements changed.
# A fresh machine needs Python 3.11-3.13 (with venv) and make, nothing else.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The libraries' own usage reporting stays off unless the caller asks for it.
export DAGSTER_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export GX_ANALYTICS_ENABLED ?= false

BIN := $(VENV)/bin

.PHONY: help install install-dev demo ui report test test-slow check docs format bench metrics reference lock clean reset

help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: install ## Run the whole pipeline once: templates to redshift catalogue and metrics
	@$(BIN)/paeplatform demo $(ARGS)

ui: install ## Serve the Dagster and MLflow pages on this machine until Ctrl-C
	@$(BIN)/paeplatform ui $(ARGS)

report: install ## Open the validation report of the last run in a browser
	@$(BIN)/paeplatform report $(ARGS)

metrics: install ## Print the metric tables of the last run
	@$(BIN)/paeplatform metrics $(ARGS)

test: install-dev ## Run the tests (the fast set)
	@PYTHON=$(BIN)/python scripts/run_tests.sh $(ARGS)

test-slow: install-dev ## Run the slow tests too
	@PYTHON=$(BIN)/python PYTEST_ADDOPTS='-m "slow or not slow"' scripts/run_tests.sh $(ARGS)

check: install-dev ## Check format, lint, types, import directions, Dagster definitions and the documentation site
	@echo "ruff format"  && $(BIN)/ruff format --check --quiet .
	@echo "ruff check"   && $(BIN)/ruff check --quiet .
	@echo "pyright"      && PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright
	@echo "lint-imports" && $(BIN)/lint-imports --no-cache
	@echo "dg check"     && export VIRTUAL_ENV="$(abspath $(VENV))" && PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dg check toml && PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dg check defs
	@echo "mkdocs"       && NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: install-dev ## Build the documentation as a site in site/; open site/index.html, no network needed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "site/index.html"

format: install-dev ## Rewrite the sources in the house's format and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: install ## Run the benchmarks; results in benchmarks/results/*.json
	@$(BIN)/python benchmarks/run.py $(ARGS)

reference: install ## Train the model that ships anew (hours) and compare it; ARGS=--help says more
	@$(BIN)/python scripts/make_reference.py $(ARGS)

install: $(VENV)/.installed-runtime ## Make the environment that running needs

install-dev: $(VENV)/.installed-dev ## Make the environment that tests and checks need

# $(1) the requirement, $(2) the stamp. pip's own lines go to a log; what is shown is how far it has come.
define pip_install
	@echo "Installing $(1) into $(VENV) (a few minutes the first time; log: $(VENV)/install.log)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '$(1)' 2>&1 \
	  | tee $(VENV)/install.log \
	  | awk '/^(Collecting|Processing) /              { n++; if (n % 25 == 0) { print "  " n " packages resolved, at " $$2; fflush() } } \
	         /^Installing collected/     { print "  installing"; fflush() } \
	         /^ *(ERROR|error)/          { print; fflush() } \
	         /^Successfully installed/   { print "  done: " NF - 2 " packages installed"; fflush() }'
	@touch $(2)
endef

# An environment that was copied along with its checkout runs the code of the original, and keeps its results there:
# it is made anew. venv writes down where an environment was made.
MADE_AT := $(shell sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' $(VENV)/pyvenv.cfg 2>/dev/null)
ifneq ($(MADE_AT),)
ifneq ($(MADE_AT),$(abspath $(VENV)))
$(info $(VENV) was made at $(MADE_AT) and copied or moved: it is made anew)
$(shell rm -f $(VENV)/bin/python $(VENV)/.installed-runtime $(VENV)/.installed-dev)
endif
endif

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "error: Python 3.11 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.11 ...")'
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV)

$(VENV)/.installed-runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call pip_install,.,$@)

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call pip_install,.[dev],$@)
	@touch $(VENV)/.installed-runtime

lock: ## Renew constraints.txt from the newest versions that pyproject.toml allows
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@grep '^torch==' constraints.txt > .venv-lock/torch.txt
	@.venv-lock/bin/python -m pip install --quiet -c .venv-lock/torch.txt '.[dev,s3,postgres,k8s]'
	@{ sed -n '/^#/p' constraints.txt; .venv-lock/bin/python -m pip freeze --all --exclude pip --exclude paeplatform \
	   | sed -E 's/\+[a-z0-9.]+$$//; s/_/-/g' | tr '[:upper:]' '[:lower:]' | sort; } > .venv-lock/constraints.txt
	@mv .venv-lock/constraints.txt constraints.txt && rm -rf .venv-lock && git --no-pager diff --stat constraints.txt

clean: ## Remove caches and build products; keeps the environment and all results
	@rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .tmp_dagster_home* .venv-lock
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

reset: clean ## clean, and remove the environment and every result (var/, mlruns/)
	@rm -rf $(VENV) var
	@find mlruns -mindepth 1 -not -name README.md -delete 2>/dev/null || true
