SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Any Python 3.11 to 3.13; used only to make the virtual environment.
PYTHON ?= python3
VENV ?= .venv
# Passed on: make train ARGS='--data table.csv --target label', make test ARGS='-k client'.
ARGS ?=
MODEL ?= tabular_classifier
# A commit or tag: make breaking looks at what came after it only, once a break has been decided on.
SINCE ?=
# make clean DATA=1 removes what was trained as well.
DATA ?= 0
# Registry and folder of the images. Without a registry they are loaded into kind, k3d or minikube.
IMAGE_PREFIX ?= localhost
# By default the revision, and for a changed tree a digest of the change as well.
TAG ?=
# Further flags of docker or podman, for what only this machine needs.
IMAGE_BUILD_FLAGS ?=
IMAGE_PUSH_FLAGS ?=
OVERLAY ?= k8s/overlays/local
# YES=1 answers the question whether the kubectl context is the right one.
YES ?= 0
OLDEST_GRPCIO := 1.84.2
# What installs and locks versions, and keeps the environments of other model servers.
UV := 'uv>=0.13,<0.14'

# Absolute paths would break in a folder with a space in its name; every path here is relative.
python := $(VENV)/bin/python
installed := $(VENV)/.installed
generated := clients/python/prediction
messages := prediction/v1/prediction_service.proto prediction/artifact/v1/model_artifact.proto
services := prediction/v1/prediction_service.proto
code := clients flows grpc_server k8s proto tests .ci

# Neither MLflow nor what it brings along reports to anybody.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true

.PHONY: help
help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: install
install: $(installed)  ## Make the virtual environment with the locked versions

distributions := --constraint constraints.txt \
  --editable clients/python --editable '.[sync,training,cluster,tracking,dev]'

# uv keeps what it unpacked in a cache of the user's; pip knows indexes that its own settings name.
$(installed): setup.cfg pyproject.toml clients/python/pyproject.toml constraints.txt .ci/preflight.py
	$(PYTHON) .ci/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(python) -m pip install --quiet --disable-pip-version-check $(UV)
	$(python) -m uv pip install $(distributions) --quiet --compile-bytecode \
	  || $(python) -m pip install $(distributions) --quiet --disable-pip-version-check
	touch $@

.PHONY: lock
lock: $(installed)  ## Renew constraints.txt from setup.cfg, for every supported Python
	$(python) -m pip install --quiet $(UV)
	printf '%s\n' '-e clients/python' '-e .[sync,training,cluster,tracking,dev]' | $(python) -m uv pip compile - \
	  --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
	  --no-emit-index-url --no-emit-package prediction-client --no-emit-package prediction-server \
	  --output-file constraints.txt

.PHONY: proto
proto: $(generated)/v1/prediction_service_pb2.py  ## Generate the Python code of the contracts

$(generated)/v1/prediction_service_pb2.py: $(addprefix proto/,$(messages)) $(installed)
	$(call generate,clients/python)
	touch $@

# $(call generate,FOLDER): write the generated code of all contracts below FOLDER.
define generate
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Iproto \
  --python_out=$(1) --mypy_out=quiet:$(1) $(messages)
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Iproto \
  --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(services)
endef

.PHONY: openapi
openapi: $(installed)  ## Generate the OpenAPI document of the HTTP routes
	mkdir -p build
	$(python) proto/tools/openapi.py > build/openapi.yaml
	mv build/openapi.yaml proto/openapi.yaml

.PHONY: drift
drift: $(installed)  ## Fail if what is generated and committed is not what the contracts give
	rm -rf build/drift && mkdir -p build/drift
	$(call generate,build/drift)
	cd build/drift && find . -type f | sort | while read -r file; do \
	  diff -u "../../clients/python/$$file" "$$file"; done
	$(python) proto/tools/openapi.py | diff -u proto/openapi.yaml -

# All commits rather than the last one: a break could be spread over two, or already be committed.
.PHONY: breaking
breaking: $(installed)  ## Fail if the contracts break what any commit since SINCE agreed on
	git rev-list $(addsuffix ..,$(SINCE))HEAD -- proto/prediction | while read -r commit; do \
	  $(VENV)/bin/buf breaking proto --against ".git#ref=$$commit,subdir=proto"; done

.PHONY: format
format: $(installed)  ## Format the code and the contracts
	$(python) -m black --quiet --extend-exclude _pb2 $(code)
	$(python) -m isort --quiet $(code)
	$(VENV)/bin/buf format --write proto

.PHONY: lint
lint: $(installed)  ## Check format, style, types, import rules, spelling and the contracts
	$(python) -m black --quiet --check --extend-exclude _pb2 $(code)
	$(python) -m isort --quiet --check $(code)
	$(python) -m flake8 $(code)
	$(python) -m mypy
	PYTHONPATH=flows:clients/python $(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/codespell
	$(VENV)/bin/hadolint flows/Dockerfile grpc_server/Dockerfile
	$(VENV)/bin/buf lint proto
	$(VENV)/bin/buf format --diff --exit-code proto

# The order is that of tests/conftest.py.
side_by_side := --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(installed)  ## Run the tests, three files at once; ARGS=--numprocesses=0 for one test after the other
	$(python) -m pytest $(side_by_side) $(ARGS)

.PHONY: test-faults
test-faults: $(installed)  ## Run the tests of faults that take minutes: thousands of broken models, signals and kills
	$(python) -m pytest $(side_by_side) -m faults $(ARGS)

oldest_grpcio := build/grpcio-$(OLDEST_GRPCIO)

.PHONY: test-grpcio
test-grpcio: $(installed)  ## Run the tests of the wire again, on the oldest grpcio that is allowed
	rm -rf $(oldest_grpcio)
	$(python) -m pip install --quiet --disable-pip-version-check --no-deps --target $(oldest_grpcio) \
	  $(foreach package,grpcio grpcio-health-checking grpcio-reflection grpcio-status,$(package)==$(OLDEST_GRPCIO))
	PYTHONPATH=$(oldest_grpcio) $(python) -c 'import grpc; assert grpc.__version__ == "$(OLDEST_GRPCIO)"'
	PYTHONPATH=$(oldest_grpcio) $(python) -m pytest $(side_by_side) tests/test_lanes.py \
	  tests/test_batch.py tests/test_server.py tests/test_server_process.py $(ARGS)

.PHONY: train
train: $(installed)  ## Run the training flow here; ARGS are its parameters
	$(python) flows/train_flow.py run --model_name $(MODEL) $(ARGS)

.PHONY: serve
serve: $(installed)  ## Serve the champion of MODEL on port 50051, metrics on 8080
	$(python) -m grpc_server --host 127.0.0.1 --model-uri models:/$(MODEL)@champion $(ARGS)

.PHONY: serve-rest
serve-rest: $(installed)  ## The same with Envoy in front: JSON over HTTP on port 8000
	$(python) k8s/components/envoy-json/serve_rest.py --model-uri models:/$(MODEL)@champion $(ARGS)

.PHONY: demo
demo: $(installed)  ## Train on the embedded data set, register, serve, predict
	$(python) clients/demo.py

.PHONY: bench
bench: $(installed)  ## Measure the flow and the server on this machine
	PYTHONPATH=tests:flows $(python) -m benchmarks

.PHONY: bench-serve
bench-serve: $(installed)  ## Measure the server beside its alternatives, half an hour; ARGS="lanes peers batches overload soak"
	$(python) -m pip install --quiet $(UV)
	PYTHONPATH=tests:flows $(python) -m benchmarks.serve $(ARGS)

.PHONY: bench-search
bench-search: $(installed)  ## Measure the search beside its alternatives; ARGS as in --help, minutes to an hour
	PYTHONPATH=tests:flows $(python) -m benchmarks.search $(ARGS)

.PHONY: bench-quality
bench-quality: $(installed)  ## Measure how good the models are, beside other tools on public tables; ARGS as in --help, hours
	$(python) -m pip install --quiet $(UV)
	PYTHONPATH=tests:flows $(python) -m benchmarks.quality $(ARGS)

image_names = --prefix='$(IMAGE_PREFIX)' --tag='$(TAG)'

.PHONY: images
images:  ## Build both images with docker or podman, as IMAGE_PREFIX/NAME:TAG
	$(PYTHON) k8s/images.py build $(image_names) --flags='$(IMAGE_BUILD_FLAGS)'

.PHONY: push
push:  ## Push both images to IMAGE_PREFIX, or load them into a local cluster
	$(PYTHON) k8s/images.py push $(image_names) --flags='$(IMAGE_PUSH_FLAGS)'

.PHONY: manifests
manifests: $(installed)  ## Build every overlay and component, and check them; needs no cluster
	$(python) -m pytest tests/test_manifests.py $(ARGS)

.PHONY: deploy
deploy:  ## Deploy OVERLAY with pushed images to the current kubectl context
	$(PYTHON) k8s/deploy.py apply --overlay='$(OVERLAY)' $(image_names) --yes='$(YES)'

# The tag is settled once, so that a file that is saved meanwhile does not give another.
.PHONY: all
all:  ## Build, push and deploy OVERLAY to the current kubectl context
	$(MAKE) --no-print-directory -j1 images push deploy \
	  TAG='$(or $(TAG),$(shell $(PYTHON) k8s/images.py tag))'

.PHONY: test-images
test-images: $(installed)  ## Build both images and run them as their pods do; needs docker or podman
	IMAGE_BUILD_FLAGS='$(IMAGE_BUILD_FLAGS)' $(python) -m pytest -m images $(ARGS)

.PHONY: test-cluster
test-cluster: $(installed)  ## Run the tests on the cluster of KUBECONFIG, with images that it has
	IMAGE_PREFIX='$(IMAGE_PREFIX)' TAG='$(TAG)' $(python) -m pytest -m cluster $(ARGS)

.PHONY: ci
ci: lint breaking drift test test-faults test-grpcio  ## What has to pass before a change lands

.PHONY: clean
clean:  ## Remove what make made, in the cluster too; DATA=1 also models, runs and volumes
	$(PYTHON) k8s/deploy.py delete --overlay='$(OVERLAY)' --yes='$(YES)' --data='$(DATA)'
	rm -rf $(VENV) build .model .mypy_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf prediction_server.egg-info clients/python/prediction_client.egg-info clients/python/build
	if [[ "$(DATA)" == 1 ]]; then rm -rf .metaflow mlflow.db mlruns mlartifacts; \
	  else echo 'kept: .metaflow, mlflow.db, mlruns (make clean DATA=1 removes them)'; fi
