# Two commands: `make demo` trains and compares two agents, `make test` runs the tests. `make docs` builds the site into docs/_build. Each sets up its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
DEVICE ?= cpu
WORKERS ?= 2
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check docs clean

demo: $(VENV)/.installed
	$(VENV)/bin/wgf compare --env Swimmer-v5 --agents sac dp-wgf-v --seeds 5 --steps 8000 --eval-every 500 --eval-episodes 2 --threads 1 --name demo

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest --device $(DEVICE) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.installed-dev
	$(VENV)/bin/sphinx-build -W -q -c docs . docs/_build
	@echo "docs/_build/docs/index.html"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV), a few minutes the first time"
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable ".[dev,docs,onnx,ray,slurm,search,envpool,warp,video,dm-control,triton]"
	touch $@

clean:
	rm -rf $(VENV)
