# `make demo` and `make test` set everything up on a fresh clone. They need git, make and a Python from 3.11 on with pip
# and venv. The first of these that runs is taken: the Pythons that the tests pass on, newest first, since it has the
# newest libraries and is maintained the longest; then whatever python3 is. `make PYTHON=python3.12 test` names another.
PYTHONS := python3.13 python3.12 python3.11 python3 python
PYTHON :=

PY := .venv/bin/python
RUN := $(PY) -m ditexp.run
DEMO := -m solver=euler,heun,rk4 steps=20,50,100
SCHEMA := .venv/bin/check-jsonschema --builtin-schema vendor
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
ACTIVATE := @echo; echo 'To use ditexp in this shell: . .venv/bin/activate'

# Other evaluators and solvers, with which ours are compared, and what they import beyond requirements.lock.
PEERS := clean-fid flow-matching torch-fidelity torchmetrics lightning-utilities prdc

# What builds the site of the documentation, in an environment of its own.
SITE := mkdocs-material

.PHONY: help demo plan test test-all test-peers lint format docs site bench lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s%s\n", $$1, $$2}' Makefile

demo: .venv/.ready  ## run the README's sweep on the bundled digits model
	$(RUN) $(DEMO)
	$(ACTIVATE)

plan: .venv/.ready  ## show what the demo would cost and what is cached; run nothing
	$(RUN) $(DEMO) hydra/launcher=plan

test: .venv/.ready  ## run the quick tests
	$(PYTEST) -m "not slow"
	$(ACTIVATE)

test-all: .venv/.ready  ## run all tests, with kills, launchers, W&B failures and the wheel
	$(PYTEST)

test-peers: .venv/.peers  ## compare our numbers with other evaluators' own code on the same images and weights; slow
	PYTHONPATH=.venv/peers $(PY) -m pytest tests/peers -v

lint: .venv/.ready  ## check style (ruff), types (ty), the Dockerfile, workflows and the citation
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m ty check
	.venv/bin/hadolint Dockerfile
	$(SCHEMA).github-workflows .github/workflows/*.yml
	$(SCHEMA).github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(SCHEMA).citation-file-format CITATION.cff

format: .venv/.ready  ## fix style, as far as ruff can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: .venv/.ready  ## write docs/reference.md from conf, tables of docs/performance.md, and the lines of links to code
	$(PY) -m docs.make_reference
	$(PY) -m docs.make_performance
	$(PY) -m docs.code_links

site: .venv/.site  ## build the site of the documentation into site/
	NO_MKDOCS_2_WARNING=1 .venv/site/bin/mkdocs build --quiet --strict

bench: .venv/.peers  ## measure sampling, a cell's profile, metrics, extraction, the page and hashes; write benchmarks/results
	PYTHONPATH=.:.venv/peers $(PY) -m benchmarks.sampling
	$(PY) -m benchmarks.profile_cell
	PYTHONPATH=.venv/peers $(PY) -m benchmarks.metrics
	PYTHONPATH=.venv/peers $(PY) -m benchmarks.extraction
	$(PY) -m benchmarks.page
	$(PY) -m benchmarks.content_hash
	$(PY) -m benchmarks.uncertainty

lock: .venv/.ready  ## resolve pyproject.toml into requirements.lock: every version, every hash, no index
	$(COMPILE) --extra dev --extra optuna --extra slurm --extra ray --extra tensorboard --extra text \
	  --extra torchao --extra workspace pyproject.toml -o requirements.lock
	echo $(PEERS) | tr ' ' '\n' | $(COMPILE) --no-deps - -o requirements-peers.lock
	echo $(SITE) | $(COMPILE) - -o requirements-site.lock

clean:  ## delete the environment and all outputs
	rm -rf .venv outputs/*

# A Python fits if it runs (a shim may not), is new enough and has venv with pip (Debian packages them separately).
FITS := -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
VERSION := -c 'import sys; print(*sys.version_info[:3], sys.base_prefix)'

ifneq ($(PYTHON),)
ifneq ($(shell $(PYTHON) $(VERSION) 2>/dev/null),$(shell $(PY) $(VERSION) 2>/dev/null))
.venv/bin/python: FORCE  # the environment is of another Python
endif
endif

.venv/bin/python:
	@for python in $(or $(PYTHON),$(PYTHONS)); do \
	  if $$python $(FITS) 2>/dev/null; then \
	    echo "Setting up .venv with $$($$python --version)"; \
	    rm -rf .venv && exec $$python -m venv .venv; \
	  fi; \
	done; \
	echo "ditexp needs Python 3.11 or later with venv and pip (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	echo "Tried: $(or $(PYTHON),$(PYTHONS)). To name another: make PYTHON=/path/to/python3.12 test" >&2; \
	exit 1

# uv installs the lock in a third of pip's time. Where uv is not available, pip does the same.
# ditexp itself is installed editable: `import ditexp` and the `ditexp` command work from any folder.
UV := $(PY) -m uv
PIP := $(PY) -m pip --disable-pip-version-check --quiet
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --no-header
EDITABLE := --no-deps --no-build-isolation --editable .

.venv/.ready: .venv/bin/python requirements.lock pyproject.toml
	($(PIP) install uv==0.13.9 && $(UV) pip sync --quiet --python $(PY) requirements.lock) \
	  || $(PIP) install --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(PY) $(EDITABLE) || $(PIP) install $(EDITABLE)
	touch $@

.venv/.site: .venv/.ready requirements-site.lock
	$(PY) -m venv .venv/site
	.venv/site/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-site.lock
	touch $@

.venv/.peers: .venv/.ready requirements-peers.lock
	$(PIP) install --no-deps --require-hashes --target .venv/peers -r requirements-peers.lock
	touch $@

FORCE:
