# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check reference bench clean
.DEFAULT_GOAL := help

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## make footage, fit, score, alert, report (on the embedded server, no network)
	$(BIN)/oddwatch demo --out demo

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(STAMP)  ## write configs/oddwatch.yaml and docs/configuration.md from the model of the configuration
	$(BIN)/python -m pipeline.config.reference

bench: $(STAMP)  ## benchmarks, side by side with what they are compared with (twenty minutes; BENCH_ARGS=--quick)
	$(BIN)/python -m scripts.bench $(BENCH_ARGS)

clean:  ## remove what make made
	rm -rf $(VENV) demo
