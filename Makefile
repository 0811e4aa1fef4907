.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock"

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# a .venv made in another folder, or by a Python that no longer exists, is useless
ANEW := $(shell grep -qsF " $(CURDIR)/.venv" .venv/pyvenv.cfg && \
	$(BIN)/python -c "import pip" 2>/dev/null || echo anew)

.PHONY: anew
anew:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Laurels needs \
	Python 3.11 or newer, and $(PYTHON) is %d.%d: name another, as in make run PYTHON=python3.13" % v[:2])'
	rm -rf .venv
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/use: requirements.lock $(ANEW)
	$(INSTALL) -r requirements.lock
	touch $@

.venv/dev: requirements-dev.lock .venv/use
	$(INSTALL) -r requirements-dev.lock
	touch $@

.venv/client: tests/support/requirements-client.txt examples/bot/requirements.txt .venv/use
	$(BIN)/python -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check \
		-r tests/support/requirements-client.txt -r examples/bot/requirements.txt
	touch $@

.venv/generator: tests/support/requirements-generator.txt .venv/use
	$(BIN)/python -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv/node: tests/support/package-lock.json
	mkdir -p $@
	cp tests/support/package.json $< $@
	cd $@ && npm ci --silent --no-audit --no-fund
	touch $@

CLIENTS := .venv/client .venv/generator $(if $(shell command -v npm),.venv/node)

.PHONY: run
run: .venv/use ## Install, bring the database up to date, and serve on 127.0.0.1:8000
	umask 077; $(BIN)/flask db upgrade
	$(BIN)/gunicorn

.PHONY: dev
dev: .venv/dev ## Serve for development, restarting at each change of the code
	umask 077; $(BIN)/flask db upgrade
	port=$$($(BIN)/python -c 'from config import Settings; print(Settings.load().port)') && \
		$(BIN)/flask run --debug --port $$port

.PHONY: demo
demo: .venv/use ## Serve a throwaway community to try out
	$(BIN)/python -m examples.demo

.PHONY: test
test: .venv/dev $(CLIENTS) ## Check format, lint, types and migrations, and run all tests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/mypy --no-error-summary --python-executable .venv/client/bin/python examples/bot/bot.py
	$(BIN)/pytest

.PHONY: test-postgres
test-postgres: .venv/dev $(CLIENTS) ## Run all tests on a PostgreSQL of their own instead of SQLite
	$(BIN)/pytest --postgresql

.PHONY: format
format: .venv/dev ## Format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

.PHONY: fuzz
fuzz: .venv/dev ## Send the server all kinds of requests: make fuzz OPTIONS="--requests 20000 --seed 1"
	$(BIN)/python -m tests.stress.fuzz $(OPTIONS)

.PHONY: chaos
chaos: .venv/dev ## Cause faults, and compare the results: make chaos OPTIONS="--runs 50 --seed 1"
	$(BIN)/python -m tests.stress.chaos $(OPTIONS)

.PHONY: screenshots
screenshots: .venv/dev ## Retake the README's picture of the pages
	$(BIN)/pytest -n 0 tests/system/test_browser.py -k screenshot --screenshots docs

.PHONY: bench
bench: .venv/dev ## Measure the server against bare minimums: make bench OPTIONS="--table 2"
	$(BIN)/python -m benchmarks $(OPTIONS)

.PHONY: profile
profile: .venv/dev ## Show where a request's time goes: make profile URL=/teams/search
	$(BIN)/python -m benchmarks.profile $(URL)

.PHONY: lock
lock: .venv/dev ## Pin the requirements and their own dependencies again
	$(LOCK) --upgrade requirements-dev.txt -o requirements-dev.lock
	for part in requirements requirements-postgresql; do \
		$(LOCK) --constraints requirements-dev.lock $$part.txt -o $$part.lock || exit; done
