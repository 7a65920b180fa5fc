# make demo | serve | export | test | test-full | check | faults | bench | bench-export | bench-gallery | bench-openset | bench-evaluate | reference | calibrate | lock | clean
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo serve export test test-full check faults bench bench-accuracy bench-soak bench-export bench-gallery bench-openset bench-evaluate reference calibrate lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := deploy/locks
TORCH ?= torch==2.13.0

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

# Data lies where `vultus` itself looks for it: in VULTUS_DATA_DIR, else in the user's data directory.
.PHONY: moved
moved:
	@if [ -d .vultus ] && [ -z "$$VULTUS_DATA_DIR" ]; then \
		echo "the directory .vultus is not used any more; to keep what is in it: export VULTUS_DATA_DIR=$(CURDIR)/.vultus"; \
	fi

help:
	@echo "make demo         set up, start the service, send real photos to it, show the answers (A=one.jpg B=two.jpg: yours)"
	@echo "make serve        set up and serve on 127.0.0.1:8000"
	@echo "make export       set up what turns checkpoints into artefacts (torch), see models/README.md"
	@echo "make test         set up and run the tests"
	@echo "make test-full    run what make test leaves out: large networks, whole data sets, fresh environments, longer faults"
	@echo "make check        ruff, format, mypy --strict"
	@echo "make faults       240 rounds of killed processes, a minute of 32 threads"
	@echo "make bench        faces a second, stages, the service under load, beside insightface, OpenCV, the machine's limit"
	@echo "make bench-accuracy LFW View 2 in every precision, and decisions that flip (LFW=directory, MODEL=artefact)"
	@echo "make bench-soak   memory over 100,000 requests of mixed sizes (REQUESTS=n)"
	@echo "make bench-export seconds and memory of an export, beside torch's exporter alone"
	@echo "make bench-gallery a million templates beside raw FAISS (TEMPLATES=n)"
	@echo "make bench-openset 1:N over HTTP on LFW, beside a plain numpy search (LFW=directory)"
	@echo "make bench-evaluate all pairs of LFW, a set as large as IJB-C, beside the plain ways (LFW=directory)"
	@echo "make reference    every official network in every wrapper against the official embeddings (needs them)"
	@echo "make calibrate    measure the default pack on all pairs of LFW (LFW=directory)"

# The locks name every package with its hash; --no-deps keeps a second OpenCV or ONNX Runtime out.
$(VENV)/run.stamp: $(LOCKS)/build.txt $(LOCKS)/cpu.txt pyproject.toml
	@test -x $(BIN)/python || { echo "setting up $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what the service needs (some 200 MB, once)"
	@$(INSTALL) -r $(LOCKS)/build.txt
	@$(INSTALL) -r $(LOCKS)/cpu.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Torch is not in the lock: its CPU and CUDA builds share one number and differ in their hashes. TORCH=torch==2.13.0+cpu
# or a path to a wheel chooses one.
$(VENV)/export.stamp: $(VENV)/run.stamp $(LOCKS)/export.txt
	@echo "installing what reads checkpoints: torch and what it needs (some 200 MB, once)"
	@$(INSTALL) -r $(LOCKS)/export.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/export.stamp $(LOCKS)/dev.txt
	@echo "installing what the tests need"
	@$(INSTALL) -r $(LOCKS)/dev.txt
	@touch $@

export: $(VENV)/export.stamp moved
	@$(BIN)/vultus packs fetch opencv-zoo
	@echo "ready: .venv/bin/vultus export CHECKPOINT --out artefacts/NAME"

demo: $(VENV)/run.stamp moved
	@$(BIN)/vultus demo $(if $(A),--a "$(A)") $(if $(B),--b "$(B)")

serve: $(VENV)/run.stamp moved
	@$(BIN)/vultus packs fetch "$${VULTUS_PACK:-opencv-zoo}"
	@$(BIN)/vultus serve --hints

test: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	$(BIN)/python -m pytest

test-full: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	FAULT_ROUNDS=$(or $(ROUNDS),40) FAULT_SECONDS=15 $(BIN)/python -m pytest -m "full or faults" --timeout 900

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: $(VENV)/dev.stamp
	FAULT_ROUNDS=$(or $(ROUNDS),240) FAULT_SECONDS=60 $(BIN)/python -m pytest -m faults --timeout 1800

bench: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.speed $(BENCH)

bench-export: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.exports

bench-gallery: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.galleries --templates $(or $(TEMPLATES),1000000)

bench-accuracy: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.accuracy --lfw $(or $(LFW),../shared/data/lfw) $(if $(MODEL),--model $(MODEL))

bench-soak: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.soak --requests $(or $(REQUESTS),100000)

bench-openset: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.openset --lfw $(or $(LFW),../shared/data/lfw)

bench-evaluate: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.evaluation --lfw $(or $(LFW),../shared/data/lfw)

reference: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.reference

calibrate: $(VENV)/run.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	$(BIN)/vultus calibrate $(or $(LFW),../shared/data/lfw)/images --faces central --title "LFW, deep-funneled" \
		--out models/packs/manifests/opencv-zoo.calibration.json

lock:
	$(LOCKS)/update.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
