# Tutelage's commands; `make` alone lists them. Each sets up what it needs in .venv, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help quickstart smollm2 test test-all faults lint fmt bench quickstart-assets setup setup-dev docs lock clean

bin := .venv/bin
setup := python="$$(PYTHON="$(PYTHON)" tools/python.sh)" && "$$python" tools/setup.py
pytest := $(bin)/python -m pytest -n 2 --dist worksteal

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

quickstart: setup ## run the whole loop on small models: no key, GPU or model hub; prints set-up and run apart
	@begin=$$(date +%s); code=0; $(bin)/tutelage run recipes/quickstart.yaml || code=$$?; \
	echo "set-up $$(cat .cache/setup-seconds) s, run $$(( $$(date +%s) - begin )) s"; exit $$code

smollm2: setup-dev ## a real small LLM on a CPU, with LoRA teachers and a local server: less than an hour
	$(bin)/python -m recipes.smollm2.run

test: lint ## linters, types and every test that takes less than half a minute
	$(pytest) -m "not slow"

test-all: lint ## the same with the slow tests: kills, whole runs, the wheel in an empty environment
	$(pytest)

faults: setup-dev ## the fault suite: each row of what a run survives, with its figure and its bar
	$(bin)/python -m tests.faults

lint: setup-dev ## ruff (rules and format) and mypy
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy .

fmt: setup-dev ## let ruff mend what it can
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

bench: setup-dev ## every benchmark in benchmarks/, one after the other; each prints a line of JSON last
	@for script in benchmarks/[a-z]*.py; do \
	  [ -e "$$script" ] || { echo "benchmarks/ holds no benchmark"; break; }; \
	  name=$$(basename "$$script" .py); echo "== $$name"; $(bin)/python -m "benchmarks.$$name" || exit 1; \
	done

quickstart-assets: setup ## make the quickstart's teachers and base anew (recipes/quickstart/README.md)
	$(bin)/python recipes/quickstart/make_assets.py

docs: setup ## write docs/recipe.md from the recipe's models
	$(bin)/python -m tutelage.reference docs/recipe.md

setup: ## only make .venv with the product and the quickstart
	@$(setup)

setup-dev: ## the same with test tools, linters and the tests' chat model
	@$(setup) --dev

lock: ## resolve the dependencies of pyproject.toml anew into tools/locks/
	@python="$$(PYTHON="$(PYTHON)" tools/python.sh)" && "$$python" -m venv .cache/lock && \
	.cache/lock/bin/python -m pip install --quiet pip-tools==7.6.2 && .cache/lock/bin/python tools/lock.py

clean: ## remove .venv and the caches; runs/ stays
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
