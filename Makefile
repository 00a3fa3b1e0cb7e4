.DEFAULT_GOAL := help
.PHONY: help demo test matrix lint format bench proof clean

NEW_ENOUGH = import sys, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $$python && break; done)
PY = .venv/bin/python

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

demo: .venv/.demo  ## run a shop against a simulated gateway; ARGS=--once ends after the table
	$(PY) -m example_project.demo $(ARGS)

test: .venv/bin/tox  ## the suite on the built wheel; ARGS go to pytest
	.venv/bin/tox run -e py -- $(ARGS)

matrix: .venv/bin/tox  ## the same with every Python and Django that is there
	.venv/bin/tox run $(ARGS)

lint: .venv/.dev  ## style, migrations and system checks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check

format: .venv/.dev  ## bring the code into shape
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: .venv/.dev  ## the callback view against a hand-written floor, polling against a bare loop, on PostgreSQL
	$(PY) -m benchmarks.callbacks
	$(PY) -m benchmarks.reconcile --memory 100000

proof: .venv/.dev  ## kills, races and crash points in full size, on DATABASE_URL or SQLite
	$(PY) -m pytest -m "processes or proof" $(ARGS)

clean:  ## remove what was built and every local database
	rm -rf .venv .tox build dist var *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage*

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/bin/tox: | .venv/bin/python
	$(PY) -m pip install --quiet "tox>=4.25"

.venv/.demo: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable .
	touch $@

.venv/.%: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable ".[$*]"
	touch $@
