# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Empty: the newest releases instead of the tested ones.
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Two workers: a test that drives processes keeps two cores busy by itself. A file stays with one worker.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-long test-newest check reference bench lock clean
.DEFAULT_GOAL := help

help:  ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager) --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## make footage, fit, score, alert, report (on the embedded server, no network)
	$(BIN)/oddwatch demo --out demo

test: $(STAMP)  ## every promise in its short form (five minutes on two cores)
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-long: $(STAMP)  ## the long forms: every kill point, long loops, every kind of BLAS kernel, the image's steps
	$(PYTEST) -m slow $(PYTEST_ARGS)

test-newest:  ## make test with the newest releases of everything, in an environment of its own
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

check: $(STAMP)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(STAMP)  ## write configs/oddwatch.yaml and docs/configuration.md from the model of the configuration
	$(BIN)/python -m pipeline.config.reference

bench: $(STAMP)  ## benchmarks, side by side with what they are compared with (twenty minutes; BENCH_ARGS=--quick)
	$(BIN)/python -m scripts.bench $(BENCH_ARGS)

lock: $(STAMP)  ## write constraints.txt anew: the newest releases, which the tests must then pass with
	$(BIN)/python -m scripts.lock_constraints

clean:  ## remove what make made
	rm -rf $(VENV) .venv-newest demo
