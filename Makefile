# Every target is one line that calls the `lab` command; settings are given as NAME=value.
PYTHON ?= python3
VENV := .venv
LAB := $(VENV)/bin/python -m lab
READY := $(VENV)/.locked

.DEFAULT_GOAL := help
.PHONY: help setup doctor bench ladder ladder-crash up load monitoring down seed status logs report diagnose \
        confirm tune diagnosis-suite snapshot watch reset presets images-offline test test-compose \
        lint format benchmarks lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

$(READY): requirements.lock bootstrap.sh
	@PYTHON=$(PYTHON) sh bootstrap.sh $(VENV)

setup: $(READY) ## virtual environment, .env and server programs (the others do it by themselves)
	@$(LAB) setup

doctor: $(READY) ## check this host, and say what is wrong and what to do
	@$(LAB) doctor

bench: $(READY) ## run a preset: PRESET=quick, RESUME=<run_id>, and any toggle (USERS=10,100)
	@$(LAB) bench $(MAKEOVERRIDES)

ladder: $(READY) ## the write ladder: RUNGS=2-B,3-D TARGET_TPS=max DURATION=8 BATCH= POOL= ROUTE= DB_CPUS=
	@$(LAB) ladder $(MAKEOVERRIDES)

ladder-crash: $(READY) ## kill PostgreSQL in mid-write on every rung and count what is lost
	@$(LAB) ladder-crash $(MAKEOVERRIDES)

up: $(READY) ## start one service with all monitoring: FRAMEWORK=fastapi ROUTE=direct
	@$(LAB) up $(MAKEOVERRIDES)

load: $(READY) ## load on what `make up` started: USERS=50 FOR=120 SCENARIO=... SPAWN_RATE=...
	@$(LAB) load $(MAKEOVERRIDES)

monitoring: $(READY) ## a run that has ended, in Grafana or the live page: RUN=latest
	@$(LAB) monitoring $(MAKEOVERRIDES)

down: $(READY) ## end what `make up` or `make monitoring` started
	@$(LAB) down

seed: $(READY) ## make database, roles and data ready
	@$(LAB) seed $(MAKEOVERRIDES)

status: $(READY) ## what runs, and where
	@$(LAB) status

logs: $(READY) ## the servers' logs: SERVICE=postgres LINES=50
	@$(LAB) logs $(MAKEOVERRIDES)

report: $(READY) ## tables and plots of a run again: RUN=latest
	@$(LAB) report $(MAKEOVERRIDES)

snapshot: $(READY) ## a run's dashboards as files: RUN=latest CELL=... DASHBOARD=... PNG=1
	@$(LAB) snapshot $(MAKEOVERRIDES)

watch: $(READY) ## the dashboards live in a browser, without Grafana: PORT=9300
	@$(LAB) watch $(MAKEOVERRIDES)

diagnose: $(READY) ## what limits a cell and what to change: RUN=latest CELL=..., or LIVE=1
	@$(LAB) diagnose $(MAKEOVERRIDES)

confirm: $(READY) ## a cell against its remedy: RUN=latest CELL=... PAIRS=5
	@$(LAB) confirm $(MAKEOVERRIDES)

tune: $(READY) ## from the worst start, step by step: SLO_P95_MS=, TARGET_RPS=, STEPS=8
	@$(LAB) tune $(MAKEOVERRIDES)

diagnosis-suite: $(READY) ## how often the verdict is right (1 hour): CLASSES=... EACH=10
	@$(LAB) diagnosis-suite $(MAKEOVERRIDES)

presets: $(READY) ## list the presets
	@$(LAB) presets

reset: $(READY) ## remove the lab's data and logs
	@$(LAB) reset

test: $(READY) ## all tests, against real servers
	@$(VENV)/bin/python -m pytest

images-offline: $(READY) ## build the compose stack's images, pulling none (root; once): WRITE=.env
	@$(LAB) images-offline $(MAKEOVERRIDES)

test-compose: $(READY) ## the compose stack, for real (6 minutes): needs an engine and the images
	@$(VENV)/bin/python -m lab.stack.docker
	@POOLSCOPE_TEST_COMPOSE=1 POOLSCOPE_TEST_STACK=compose $(VENV)/bin/python -m pytest \
	  -m "stack or compose"

benchmarks: $(READY) ## what the lab itself costs (40 minutes): PARTS="answers proxy cells"
	@$(VENV)/bin/python -m benchmarks.speed $(PARTS)

lint: $(READY) ## ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

format: $(READY) ## put the code in order
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

lock: ## resolve pyproject.toml into requirements.lock, and the image's part of it, with hashes
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --group dev pyproject.toml -o requirements.lock
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate -c requirements.lock apps/requirements.in -o apps/requirements.lock
