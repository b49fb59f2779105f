# `make` checks everything a change must pass; each target runs alone too.
PYTHON ?= python

.PHONY: all format check types test test-quick golden readme-picture benchmarks

all: check types test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n logical --dist loadfile

test-quick:
	$(PYTHON) -m pytest -n logical --dist loadfile -m "not slow"

golden:
	$(PYTHON) -m tests.golden.renew

readme-picture:
	$(PYTHON) docs/readme_picture.py

benchmarks:
	$(PYTHON) -m tests.benchmarks
