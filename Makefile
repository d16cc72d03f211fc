# Two commands: `make demo` runs the main job on the example, `make test` runs every check.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(RUN)/rainshadow port examples/train_gpt_cuda.py

test: $(VENV)/.test
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/python tools/budgets.py
	$(RUN)/python -m pytest -n 2

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Rainshadow needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python can't make environments; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(RUN)/python -m pip install -q "torch==2.13.0"
	$(RUN)/python -m pip install -q -e ".[torch,fast]"
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(RUN)/python -m pip install -q "torch==2.13.0"
	$(RUN)/python -m pip install -q -e ".[test,dev]"
	touch $@

clean:
	rm -rf $(VENV) rainshadow-out
