# make demo   set up, run plans/quickstart.yaml on this machine, say where to look
# make test   set up, static checks, tests
# make bench  every fast path beside its peers: a table and build/bench.json (minutes; a quiet machine)
# The rest:   setup  check  test-slow  format  lock  clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.PHONY: setup demo check test test-slow bench format lock clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python"; exit 2; }
	@echo "Installing into .venv (torch alone is 5 GB; minutes, once) ..."
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The reference scorer of CLEval compiles an extension, so it stays out of what the product itself needs.
.venv/oracle: .venv/ready requirements-oracle.lock
	@$(PIP) install --requirement requirements-oracle.lock && touch $@ || \
		{ echo "cleval (PyPI) did not install; a C compiler is needed to compare with it"; test -z "$$CI"; }

demo: setup
	$(PY) -m orchestrator plans/quickstart.yaml

check: .venv/oracle
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()'

test: check .venv/peers
	$(PY) -m pytest

test-slow: .venv/oracle
	$(PY) -m pytest -m slow

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Exact versions of all that is installed here, less the project itself and the oracle's own needs.
lock: .venv/oracle
	@$(PY) -m pip freeze --all --exclude-editable | grep -v "^pip==" | grep -vixFf requirements-oracle.lock | grep -vixFf requirements-bench.lock > requirements.lock

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

# The peers, without their own pins (they ask for another OpenCV and another hub): only what the benchmarks import of them.
.venv/peers: .venv/oracle requirements-bench.lock
	@$(PIP) install --no-deps --requirement requirements-bench.lock && touch $@

bench: .venv/peers
	$(PY) -m benchmarks
