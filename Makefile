# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo serve export clients test test-full test-gpu-wheels gpu-bundle gpu-check image test-image soak sbom vulnerabilities check browser console-pictures faults bench bench-accuracy bench-soak bench-guard bench-watching bench-compat bench-export bench-gallery bench-encryption bench-openset bench-stored-quality bench-evaluate reference calibrate ranges lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := deploy/locks
TORCH ?= torch==2.13.0

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

# Clients of other products, which the tests point at the service. The SDK of CompreFace needs an older urllib3 than others.
COMPREFACE_VENV := build/clients/compreface
NODE_CLIENTS := tests/service/compat/node

# The compiler and the formatter that check the console, and the rules of accessibility that its tests apply.
CONSOLE_TOOLS := tests/console/node_modules
CONSOLE_PICTURES := service/console/pictures

# The packages of GPUs need 6 GB, and ONNX Runtime's build for GPUs cannot be in the same environment as the one for CPUs.
GPU_VENV ?= build/gpu-venv
GPU_BUNDLE ?= build/gpu-bundle

# Data is stored in VULTUS_DATA_DIR or, if it is not set, in the data directory of the user.
.PHONY: moved
moved:
	@if [ -d .vultus ] && [ -z "$$VULTUS_DATA_DIR" ]; then \
		echo "the directory .vultus is no longer used by default; to use its contents, run: export VULTUS_DATA_DIR=$(CURDIR)/.vultus"; \
	fi

help:
	@echo "make demo            set up, start the service, send photos to it, print the responses (your photos: A=one.jpg B=two.jpg)"
	@echo "make serve           set up and serve on 127.0.0.1:8000"
	@echo "make export          set up the export of checkpoints (installs torch), see models/README.md"
	@echo "make test            set up and run the tests"
	@echo "make clients         set up the clients of CompreFace and Amazon Rekognition that the tests use (needs npm for those of Node)"
	@echo "make test-full       run the tests that make test skips: large networks, complete data sets, fresh environments, long faults"
	@echo "make test-gpu-wheels check the packages of GPUs on a machine without a GPU (6 GB, 5 minutes)"
	@echo "make gpu-bundle      collect all that make gpu-check needs, for a machine with a GPU and without a network"
	@echo "make gpu-check       measure parity, speed, search, service and memory on a GPU"
	@echo "make check           run ruff, check the format, run mypy --strict; check the types of the console (needs npm)"
	@echo "make browser         install Chromium from Debian, with which the tests of the console are run"
	@echo "make console-pictures make the pictures of the console in service/README.md, of drawn faces"
	@echo "make faults          run 240 rounds of killed processes, and 32 threads for a minute (ROUNDS=n)"
	@echo "make image           build the container image vultus:cpu with docker, podman or buildah (TARGET=gpu, IMAGE=options)"
	@echo "make test-image      run that image with the restrictions of the compose file, and send photos to it"
	@echo "make soak            10 minutes at 80 % of the capacity with metrics, traces and logs on (SOAK=--seconds 60)"
	@echo "make sbom            write the bill of materials (CycloneDX) and the table of licences"
	@echo "make vulnerabilities look up the locked packages, where the package index has such data"
	@echo "make bench           measure faces per second, stages and load; compare with insightface, OpenCV and the machine's limit"
	@echo "make bench-accuracy  measure LFW View 2 and changed decisions in every precision (LFW=directory, MODEL=artefact)"
	@echo "make bench-soak      measure memory over 100,000 requests of mixed sizes (REQUESTS=n)"
	@echo "make bench-guard     measure what keys, audit log and encryption cost; compare with a service without them"
	@echo "make bench-watching  measure what access lines, metrics and traces cost; compare with a service without them"
	@echo "make bench-compat    measure calls through the APIs of CompreFace and Rekognition; compare with the own API"
	@echo "make bench-export    measure time and memory of an export; compare with the exporter of torch"
	@echo "make bench-gallery   measure a million templates; compare with FAISS alone (TEMPLATES=n)"
	@echo "make bench-encryption measure what encryption at rest costs; compare with a gallery without it (TEMPLATES=n)"
	@echo "make bench-openset   measure 1:N over HTTP on LFW; compare with a numpy search (LFW=directory)"
	@echo "make bench-stored-quality measure false matches of strangers whose stored photos are blurred (LFW=directory)"
	@echo "make bench-evaluate  measure all pairs of LFW and a set of the size of IJB-C; compare with straightforward code (LFW=directory)"
	@echo "make reference       compare every official network in every wrapper with the official embeddings (requires the embeddings)"
	@echo "make calibrate       measure the default pack on all pairs of LFW, in each precision of this machine (LFW=directory)"
	@echo "make ranges          measure the inputs of the default recognizer's layers on faces, for its int8 graph (LFW=directory)"

# The locks list every package with its hash. --no-deps prevents a second OpenCV or ONNX Runtime.
$(VENV)/run.stamp: $(LOCKS)/build.txt $(LOCKS)/cpu.txt $(LOCKS)/evaluate.txt pyproject.toml
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the packages of the service (about 200 MB, once)"
	@$(INSTALL) -r $(LOCKS)/build.txt
	@$(INSTALL) -r $(LOCKS)/cpu.txt -r $(LOCKS)/evaluate.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Torch is not in the lock, because its CPU and CUDA builds have the same version and different hashes. Set
# TORCH=torch==2.13.0+cpu or the path of a wheel to choose a build.
$(VENV)/export.stamp: $(VENV)/run.stamp $(LOCKS)/export.txt
	@echo "installing the packages of the export: torch and its dependencies (about 200 MB, once)"
	@$(INSTALL) -r $(LOCKS)/export.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/export.stamp $(LOCKS)/dev.txt
	@echo "installing the packages of the tests"
	@$(INSTALL) -r $(LOCKS)/dev.txt
	@touch $@

export: $(VENV)/export.stamp moved
	@$(BIN)/vultus packs fetch opencv-zoo
	@echo "ready: .venv/bin/vultus export CHECKPOINT --out artefacts/NAME"

demo: $(VENV)/run.stamp moved
	@$(BIN)/vultus demo $(if $(A),--a "$(A)") $(if $(B),--b "$(B)")

serve: $(VENV)/run.stamp moved
	@$(BIN)/vultus packs fetch "$${VULTUS_PACK:-opencv-zoo}"
	@if [ -n "$$VULTUS_DETECTOR" ]; then $(BIN)/vultus packs fetch "$$VULTUS_DETECTOR"; fi
	@$(BIN)/vultus serve --hints

$(COMPREFACE_VENV)/stamp: $(LOCKS)/clients/compreface.txt
	@echo "installing the SDK of CompreFace"
	@$(PYTHON) -m venv $(COMPREFACE_VENV)
	@$(COMPREFACE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(NODE_CLIENTS)/node_modules/.package-lock.json: $(NODE_CLIENTS)/package-lock.json
	@echo "installing the SDKs for Node"
	@npm ci --prefix $(NODE_CLIENTS) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Without npm, the tests of its clients are skipped.
clients: $(COMPREFACE_VENV)/stamp $(if $(shell command -v npm),$(NODE_CLIENTS)/node_modules/.package-lock.json)

test: $(VENV)/dev.stamp clients $(if $(shell command -v npm),$(CONSOLE_TOOLS)/.package-lock.json)
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	$(BIN)/python -m pytest

test-full: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	FAULT_ROUNDS=$(or $(ROUNDS),40) FAULT_SECONDS=15 $(BIN)/python -m pytest -m "full or faults" --timeout 900

# Beside the lock, the bindings of TensorRT (its libraries are not on the package index) and the test runner.
$(GPU_VENV)/stamp: $(LOCKS)/build.txt $(LOCKS)/gpu.txt $(LOCKS)/tensorrt.txt $(LOCKS)/dev.txt pyproject.toml
	@test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	@echo "installing the packages of GPUs into $(GPU_VENV) (6 GB, once)"
	@awk '/^[a-z]/ { keep = /^tensorrt-cu13-bindings==/ } keep' $(LOCKS)/tensorrt.txt > $(GPU_VENV)/others.txt
	@awk '/^[a-z]/ { keep = /^(iniconfig|pluggy|pytest|pytest-timeout)==/ } keep' $(LOCKS)/dev.txt >> $(GPU_VENV)/others.txt
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCKS)/build.txt
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r $(LOCKS)/gpu.txt -r $(GPU_VENV)/others.txt
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test-gpu-wheels: $(GPU_VENV)/stamp
	$(GPU_VENV)/bin/python -m pytest --noconftest tests/gpu_wheels

gpu-bundle: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.gpu_check.bundle --out $(GPU_BUNDLE) $(BUNDLE)

# On a machine with a GPU and a package index. Without an index, copy what gpu-bundle wrote and start its run.sh.
gpu-check:
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null || \
		{ echo "gpu-check cannot run: no NVIDIA driver was found (libcuda.so.1)"; exit 1; }
	@$(MAKE) --no-print-directory $(GPU_VENV)/stamp
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCKS)/tensorrt.txt || \
		echo "the libraries of TensorRT cannot be fetched from NVIDIA's index, so TensorRT will not be measured"
	@$(GPU_VENV)/bin/python -m tests.bench.gpu_check --networks $(GPU_BUNDLE)/networks $(CHECK)

image:
	@deploy/image/build.sh $(or $(TARGET),cpu) $(IMAGE)

test-image: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch demo-photos
	$(BIN)/python -m pytest -m image tests/deploy/test_container.py

sbom: $(VENV)/dev.stamp
	@$(BIN)/python deploy/supply_chain/bom.py $(LOCKS)/cpu.txt --bom build/sbom/vultus-cpu.cdx.json --licences deploy/LICENCES.md
	@echo "build/sbom/vultus-cpu.cdx.json, deploy/LICENCES.md"

# pip-audit asks the package index, and fails where that has no data of vulnerabilities.
vulnerabilities:
	@$(PYTHON) -m venv build/audit-venv
	@build/audit-venv/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@for lock in cpu gpu evaluate export; do \
		echo "$$lock.txt"; build/audit-venv/bin/pip-audit --strict --no-deps --disable-pip -r $(LOCKS)/$$lock.txt || exit 1; \
	done

$(CONSOLE_TOOLS)/.package-lock.json: $(dir $(CONSOLE_TOOLS))package-lock.json
	@echo "installing the tools of the console"
	@npm ci --prefix $(dir $(CONSOLE_TOOLS)) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

check: $(VENV)/dev.stamp $(if $(shell command -v npm),$(CONSOLE_TOOLS)/.package-lock.json)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm >/dev/null; then echo "npm run check"; npm run --silent --prefix $(dir $(CONSOLE_TOOLS)) check; \
		else echo "the types of the console are not checked: npm is not installed"; fi

# Without a browser, the tests of the console in one are skipped.
browser:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } >/dev/null
	@chromium --version

console-pictures: $(VENV)/dev.stamp browser
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.console.pictures --out $(CONSOLE_PICTURES)

faults: $(VENV)/dev.stamp
	FAULT_ROUNDS=$(or $(ROUNDS),240) FAULT_SECONDS=60 $(BIN)/python -m pytest -m faults --timeout 1800

bench: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.speed $(BENCH)

bench-watching: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.watching $(BENCH)

bench-compat: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.compat $(BENCH)

bench-export: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.exports

bench-gallery: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.galleries --templates $(or $(TEMPLATES),1000000)

bench-encryption: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.encryption --templates $(or $(TEMPLATES),1000000)

bench-accuracy: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.accuracy --lfw $(or $(LFW),../shared/data/lfw) $(if $(MODEL),--model $(MODEL))

soak: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.soak_at_rate $(SOAK)

bench-soak: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.soak --requests $(or $(REQUESTS),100000)

bench-guard: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/vultus packs fetch demo-photos
	@$(BIN)/python -m tests.bench.guard

bench-openset: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.openset --lfw $(or $(LFW),../shared/data/lfw)

bench-stored-quality: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.stored_quality --lfw $(or $(LFW),../shared/data/lfw)

bench-evaluate: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.evaluation --lfw $(or $(LFW),../shared/data/lfw)

reference: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.bench.reference

calibrate: $(VENV)/run.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	$(BIN)/vultus calibrate $(or $(LFW),../shared/data/lfw)/images --faces central --title "LFW, deep-funneled" \
		--add --out models/packs/manifests/opencv-zoo.calibration.json

ranges: $(VENV)/dev.stamp
	@$(BIN)/vultus packs fetch opencv-zoo
	@$(BIN)/python -m tests.bench.int8_plan --lfw $(or $(LFW),../shared/data/lfw) --out models/packs/manifests/opencv-zoo.int8.json

# The versions in the locks are kept; UPGRADE=--upgrade takes the newest.
lock:
	UPGRADE=$(UPGRADE) $(LOCKS)/update.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
