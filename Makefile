# The first target used creates the environment in .venv (about two minutes).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AIRFLOW := .venv-airflow
AIRFLOW_READY := $(AIRFLOW)/.ready
ORACLES := .venv-oracles
ORACLES_READY := $(ORACLES)/.ready
DOCS := .venv-docs
DOCS_READY := $(DOCS)/.ready
export OMP_NUM_THREADS ?= 2

.PHONY: setup demo test drill lint format docs bench dag-test oracles clean

setup: $(READY)

# torch first and with its dependencies; the rest strictly from the lock, because torchrec names
# fbgemm-gpu (a CUDA build) as a dependency. packaging/fbgemm-alias closes that gap for pip check.
$(READY): requirements/cpu.txt pyproject.toml packaging/fbgemm-alias/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c requirements/cpu.txt torch==2.13.0
	$(BIN)/pip install --quiet --no-deps -r requirements/cpu.txt ./packaging/fbgemm-alias
	$(BIN)/pip install --quiet --no-deps -e .
	$(BIN)/pip check
	touch $@

demo: $(READY)
	$(BIN)/recsys-mtl simulate short_video --out demo
	$(BIN)/recsys-mtl run pipelines/short_video.yaml --first-champion

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

drill: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m drill

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(AIRFLOW_READY): requirements/airflow.txt
	$(PYTHON) -m venv $(AIRFLOW)
	$(AIRFLOW)/bin/pip install --quiet --no-deps -r requirements/airflow.txt
	$(AIRFLOW)/bin/pip check
	touch $@

dag-test: $(READY) $(AIRFLOW_READY)
	$(AIRFLOW)/bin/python tests/dags/run_dag_tests.py

# The packages of .venv by a path file, and on top the libraries that results are compared with. They
# come first on the path, so that lifelines gets the older pandas it needs.
SITE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(ORACLES_READY): $(READY) requirements/oracles.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/pip install --quiet --no-deps -r requirements/oracles.txt
	$(BIN)/python $(SITE) > "$$($(ORACLES)/bin/python $(SITE))/cpu.pth"
	$(ORACLES)/bin/pip check
	$(ORACLES)/bin/python -c 'import lifelines, pycox.models, sksurv.metrics'
	touch $@

oracles: $(ORACLES_READY)
	OMP_NUM_THREADS=1 $(ORACLES)/bin/python -m pytest -q tests/oracles

$(DOCS_READY): requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet -r requirements/docs.txt
	touch $@

docs: $(DOCS_READY)
	$(DOCS)/bin/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks.training --quick
	$(BIN)/python -m benchmarks.ingestion --quick
	$(BIN)/python -m benchmarks.towers --quick
	$(BIN)/python -m benchmarks.survival_metrics --quick
	$(BIN)/python -m benchmarks.hazard_loss --quick
	$(BIN)/python -m benchmarks.joint --quick

clean:
	rm -rf out demo site .pytest_cache .mypy_cache .ruff_cache
