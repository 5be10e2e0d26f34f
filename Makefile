# Two commands need nothing but Python 3.11 or newer (and 3.12 or newer for the embedded NetBox):
#   make demo   set all up, sync two simulated Proxmox clusters into a real NetBox, serve both
#   make test   set all up, run every test
# docs/performance.md says what make bench and make profile do.
# Everything lands below this folder: .venv (the project), .demo (NetBox, PostgreSQL, Redis).

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
export PROXBOX_DEMO_HOME ?= $(CURDIR)/.demo
export DAGSTER_DISABLE_TELEMETRY = 1

.PHONY: demo test lint fast-test bench profile docs browser screenshots clean

$(VENV)/.installed: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 on PATH; install one, or call: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/proxbox-dagster demo $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests of the UI drive a real Chromium; where there is none and it cannot be installed they are skipped.
browser:
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser || \
		command -v google-chrome; } >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null \
		|| echo "Chromium could not be installed; the tests of the UI are skipped"; \
	else echo "no chromium and chromedriver on PATH; the tests of the UI are skipped"; fi

test: lint browser
	# A file stays on one worker: its tests share a synced NetBox. The order is conftest.py's: long files first.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

fast-test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not real and not browser" $(ARGS)

bench: $(VENV)/.installed
	@$(BIN)/python -m proxbox_dagster.bench $(ARGS)

profile: $(VENV)/.installed
	@$(BIN)/python -m proxbox_dagster.bench --profile $(ARGS)

# docs/images anew, from the demo as it really looks.
screenshots: $(VENV)/.installed browser
	$(BIN)/python -m proxbox_dagster_tests.support.screenshots

docs: $(VENV)/.installed
	$(BIN)/python -m proxbox_dagster.stages.mapping_doc > docs/mapping.md

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
