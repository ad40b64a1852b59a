# `make demo` and `make test` set everything up on a fresh clone; only python3.11, pip, make and git are needed.
PY := .venv/bin/python
RUN := $(PY) -m ditexp.run
DEMO := -m solver=euler,heun,rk4 steps=20,50,100

.PHONY: demo test test-all test-peers lint format docs bench plan lock clean

# What our metrics and solvers are compared with, and what they import that is not there.
PEERS := clean-fid torch-fidelity torchmetrics lightning-utilities prdc torchdiffeq

demo: .venv/.ready  ## the README's sweep on the bundled digits model
	$(RUN) $(DEMO)

plan: .venv/.ready  ## what the demo would cost, and what of it is cached; runs nothing
	$(RUN) $(DEMO) hydra/launcher=plan

PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/.ready  ## all tests but the slow ones
	$(PYTEST) -m "not slow"

test-all: .venv/.ready  ## all tests: kills, launchers, W&B's faults and the wheel, too
	$(PYTEST)

test-peers: .venv/.peers  ## our numbers against other evaluators' own code, on the same images and random weights; slow
	PYTHONPATH=.venv/peers $(PY) -m pytest tests/peers -v

lint: .venv/.ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m ty check

format: .venv/.ready
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: .venv/.ready  ## docs/reference.md, from conf
	$(PY) -m docs.make_reference

bench: .venv/.peers  ## a job over a bare loop, metrics and extraction beside their peers, the page, content hashes, noise; writes benchmarks/results
	$(PY) -m benchmarks.overhead
	PYTHONPATH=.venv/peers $(PY) -m benchmarks.metrics
	PYTHONPATH=.venv/peers $(PY) -m benchmarks.extraction
	$(PY) -m benchmarks.page
	$(PY) -m benchmarks.content_hash
	$(PY) -m benchmarks.uncertainty

lock:  ## resolve pyproject.toml into requirements.lock: every version, every hash, no index
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --extra dev --extra slurm --extra ray --extra text --extra workspace pyproject.toml -o requirements.lock

	echo $(PEERS) | tr ' ' '\n' | .venv/bin/uv pip compile --quiet --no-deps --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header - -o requirements-peers.lock

clean:
	rm -rf .venv outputs/*

# uv installs the lock in a third of pip's time; where it cannot be had, pip does the same.
.venv/.ready: requirements.lock
	python3.11 -m venv .venv
	($(PY) -m pip install -q --disable-pip-version-check uv==0.13.9 \
	  && $(PY) -m uv pip sync -q --python $(PY) requirements.lock) \
	  || $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.venv/.peers: .venv/.ready requirements-peers.lock
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --require-hashes --target .venv/peers \
	  -r requirements-peers.lock
	touch $@
