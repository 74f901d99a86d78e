# Two commands from nothing: `make quickstart` and `make test`. Each builds $(VENV) first when it is missing.
#
#   PYTHON=python3.12      the interpreter that $(VENV) is built from (3.10 to 3.13)
#   SEED=1                 another seed for `make quickstart`; it gets a run folder of its own
#   PYTEST_ARGS="-k lrn"   handed to pytest by `make test`, which runs two files at a time
#   BENCHMARK=input        which benchmark `make bench` runs
#   EXPORT=E MODEL=NAME    what `make serve` serves, and what `make serve-check` compares with
#   SERVER=HOST:PORT GRPC=HOST:PORT    the server that `make serve-check` asks; GRPC= leaves gRPC out

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test,lint
SEED ?= 0
RUN ?= runs/quickstart$(if $(filter-out 0,$(SEED)),-seed$(SEED))
BENCHMARK ?= train_step
EXPORT ?= $(RUN)/export
MODEL ?= alexnet
SERVER ?= localhost:8501
GRPC ?= localhost:8500

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
QUIET := TF_CPP_MIN_LOG_LEVEL=2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart serve serve-check test lint bench clean

help:
	@echo "make quickstart   train on the built-in pictures, evaluate, export, predict, draw (SEED=0)"
	@echo "make serve        serve the export over gRPC (8500) and REST (8501), with a page to try it (EXPORT=E)"
	@echo "make serve-check  hold a server's answers against TensorFlow's own (SERVER=localhost:8501)"
	@echo "make test         run the test suite"
	@echo "make lint         ruff and mypy"
	@echo "make bench        one benchmark (BENCHMARK=train_step)"
	@echo "make install      only build $(VENV) (PYTHON=python3)"
	@echo "make clean        remove caches and build folders; $(VENV) and runs/ stay"

install: $(STAMP)

# The stamp is as old as the last installation: a change of what is asked for installs anew, nothing else does.
$(STAMP): pyproject.toml setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "error: $(PYTHON) is no Python 3.10 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make $(VENV); is its venv module missing? (Debian: apt install python3-venv)" >&2; \
	    exit 1; }
	@echo "installing into $(VENV): some 3 GB on disk, a few minutes the first time"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# A run that is there already goes on where it stopped, and a finished one is kept as it is.
quickstart: $(STAMP)
	$(PY) -m alexnet_tf.train --recipe quickstart --data synthetic --workdir $(RUN) --set seed=$(SEED) --set data_seed=$(SEED)
	$(PY) -m alexnet_tf.evaluate --workdir $(RUN) --data synthetic --crops 1 10
	$(PY) -m alexnet_tf.export --workdir $(RUN) --export-dir $(RUN)/export
	$(PY) -m pipelines.samples --data synthetic --seed $(SEED) --out $(RUN)/pictures --count 6
	$(PY) -m alexnet_tf.predict --export $(RUN)/export $(RUN)/pictures/*
	$(PY) -m alexnet_tf.visualize filters --workdir $(RUN) --out $(RUN)/figures
	$(PY) -m alexnet_tf.visualize curves --workdir $(RUN) --out $(RUN)/figures
	$(PY) -m alexnet_tf.visualize report --workdir $(RUN) --out $(RUN)
	@echo
	@echo "Everything lies in $(RUN):"
	@echo "  report.html                                  one page with all of it, to read in a browser"
	@echo "  metrics.csv, recipe.json, environment.json   what was trained, how, and every evaluation"
	@echo "  figures/                                     the 96 conv1 kernels and the training curves"
	@echo "  export/                                      the SavedModel for TF Serving or serving.server"
	@echo "  pictures/                                    the pictures it named above"
	@echo "Name your own:  $(PY) -m alexnet_tf.predict --export $(RUN)/export PICTURE..."

serve: $(STAMP)
	@test -d $(EXPORT) || { echo "error: $(EXPORT) is no folder; make quickstart writes one, EXPORT=E names another" >&2; exit 1; }
	$(PY) -m serving.server --model_name=$(MODEL) --model_base_path=$(abspath $(EXPORT)) --port=8500 --rest_api_port=8501

serve-check: $(STAMP)
	$(PY) -m serving.check --server $(SERVER) $(if $(GRPC),--grpc $(GRPC)) --export $(EXPORT) --model $(MODEL)

test: $(STAMP)
	$(QUIET) $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(STAMP)
	$(QUIET) $(PY) -m benchmarks.$(BENCHMARK)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find alexnet_tf pipelines serving benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
