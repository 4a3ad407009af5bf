# What a change must pass; `make help` lists the targets. PYTHON is .venv's where `make venv` made one, else the python3 in PATH.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help venv check lint format types quick library comfy page ci clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:  ## a virtual environment in .venv with all that the targets below need
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	# first, so that nothing below brings another one
	.venv/bin/python -m pip install --quiet $(TORCH)
	.venv/bin/python -m pip install --quiet -r requirements-dev.txt

check:  ## before every commit: lint, types and the quick tests; under two minutes on two cores
	@$(MAKE) --no-print-directory -j2 lint types quick

lint:  ## ruff: rules and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## ruff: mend what it can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:  ## mypy
	$(PYTHON) -m mypy

# one thread: the networks of these tests are too small for more, and mypy has the other core
quick: export OMP_NUM_THREADS = 1
quick:  ## tests that take no more than about two seconds each and start no ComfyUI
	$(PYTHON) -m pytest -m "not slow and not comfy" --durations=5 --durations-min=2

library: export OMP_NUM_THREADS = 1
library:  ## all tests of the library, the slow ones too, in two processes of one thread
	$(PYTHON) -m pytest --run-slow --numprocesses 2 --dist loadfile --ignore=tests/comfy

comfy:  ## all tests of the nodes, in a ComfyUI that is fetched into .comfyui
	$(PYTHON) scripts/setup_comfyui.py
	DIFFFAE_REQUIRE_COMFY=1 .comfyui/venv/bin/python -m pytest --run-slow tests/comfy

page:  ## tests of the page once more, with the newest page of the package index; after `make comfy`
	.comfyui/venv/bin/python -m pip install --quiet --no-deps --upgrade --target .comfyui/frontend comfyui-frontend-package
	DIFFFAE_REQUIRE_COMFY=1 COMFYUI_FRONTEND=.comfyui/frontend/comfyui_frontend_package/static .comfyui/venv/bin/python -m pytest -m browser tests/comfy

ci:  ## before a release: everything, in a fresh virtual environment; up to an hour on two cores
	.ci/run

clean:  ## caches of the tools
	rm -rf .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -not -path './.comfyui/*' -prune -exec rm -rf {} +
