# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test fmt lint type unit integration house fault interop bench docs all system clean

# The first Python that really runs and is new enough (a version manager's shim may exist and fail).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
RUN := $(BIN)/python
READY := .venv/ready
CODE := babysit fleet handbook onbox patrol sentinels bench examples tests

# What the loopback box and its tests need: Debian's name of the package, then a program that only it brings.
SYSTEM := openssh-server:sshd openssh-client:ssh tmux:tmux util-linux:unshare procps:ps busybox:busybox strace:strace gcc:cc libc6-dev:cc

demo: $(READY) system
	$(RUN) examples/demo.py

test: unit house integration

unit: $(READY)
	$(RUN) -m pytest -q -n 2 --dist loadfile tests/unit

house: $(READY)
	$(RUN) -m pytest -q tests/house

# Three files at a time: most of a test is waiting for a real box.
integration: $(READY) system
	$(RUN) -m pytest -q -n 3 --dist loadfile --durations=12 -m "not fault" tests/contract tests/integration

# The whole sweeps; `make integration` runs a seeded sample of them.
fault: $(READY) system
	$(RUN) -m pytest -q -n 2 --dist loadfile --durations=12 -m fault tests/integration

# Ours beside the real loopmonitor, tqdm and torch, which users never need: they have a folder of their own.
interop: $(READY) system .venv-interop/ready
	$(RUN) -m pytest -q -n 2 --dist loadfile --durations=12 tests/interop

.venv-interop/ready: tests/interop/requirements.txt
	$(PYTHON) -m venv --clear .venv-interop
	.venv-interop/bin/pip install -q --disable-pip-version-check -r tests/interop/requirements.txt
	@touch $@

fmt: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

lint: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports

type: $(READY)
	$(BIN)/mypy

bench: $(READY) system .venv-interop/ready
	for b in bench/*.py; do $(RUN) $$b || exit 1; done

# Writes the generated parts of the pages anew; tests/house compares them.
docs: $(READY)
	$(RUN) docs/generate.py

all: lint type test interop

system:
	@missing=; for pair in $(SYSTEM); do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${pair#*:} >/dev/null || missing="$$missing $${pair%:*}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
		echo "missing on this machine:$$missing"; echo "next: sudo apt-get install$$missing"; exit 1; fi

$(READY): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 or newer found"; \
		echo "next: install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; } || \
		{ echo "$(PYTHON) has no venv"; echo "next: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv .venv-interop build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
