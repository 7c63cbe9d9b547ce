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
# make demo KEEP=1 leaves its server running until Ctrl-C.
KEEP ?= 0
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
# The server's alone: other clients of this protocol register the same names in their process.
open_inference := grpc_server/oip/open_inference_grpc.proto grpc_server/oip/model_config.proto
open_inference_service := grpc_server/oip/open_inference_grpc.proto
code := clients flows grpc_server k8s proto tests .ci

# Neither MLflow nor what it brings along reports to anybody.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true

.PHONY: help
help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: install
install: $(installed)  ## Make the virtual environment with the locked versions

# constraints.txt is all that the extras need. The project's own packages have no hashes: they are this tree.
locked_packages := --require-hashes --requirement constraints.txt
own_packages := --no-deps --editable clients/python --editable .

# uv keeps what it unpacked in a cache of the user's; pip knows indexes that its own settings name.
$(installed): setup.cfg pyproject.toml clients/python/pyproject.toml constraints.txt .ci/preflight.py
	$(PYTHON) .ci/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(python) -m pip install --quiet --disable-pip-version-check $(UV)
	$(python) -m uv pip install $(locked_packages) --quiet --compile-bytecode \
	  || $(python) -m pip install $(locked_packages) --quiet --disable-pip-version-check
	$(python) -m uv pip install $(own_packages) --quiet \
	  || $(python) -m pip install $(own_packages) --quiet --disable-pip-version-check
	touch $@

# $(call locked,FILE,FLAGS): write the versions and hashes of what standard input asks for.
locked = $(python) -m uv pip compile - --quiet --universal --python-version 3.11 --no-header --no-annotate \
  --generate-hashes --no-emit-index-url --no-emit-package prediction-client --no-emit-package prediction-server \
  $(2) --output-file $(1)
of_constraints := --constraint constraints.txt --upgrade
# LightGBM comes without its own: the server loads its C library alone.
of_server := install_requires sync tracing --without prediction-client

.PHONY: lock
lock: $(installed)  ## Renew constraints.txt from setup.cfg, for every supported Python, and the images' parts of it
	$(python) -m pip install --quiet $(UV)
	printf '%s\n' '-e clients/python' '-e .[sync,tracing,training,cluster,tracking,dev]' | $(call locked,constraints.txt,--upgrade)
	$(MAKE) --no-print-directory lock-images

.PHONY: lock-images
lock-images: $(installed)  ## Write what each image installs, with the versions and hashes of constraints.txt
	$(python) -m pip install --quiet $(UV)
	$(python) k8s/image_requirements.py $(of_server) | $(call locked,grpc_server/requirements.txt,\
	  $(of_constraints) --no-emit-package scipy --no-emit-package narwhals)
	$(python) k8s/image_requirements.py training tracking | $(call locked,flows/requirements.txt,$(of_constraints))
	$(python) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
	  | $(call locked,k8s/build-requirements.txt,--upgrade)

.PHONY: proto
proto: $(generated)/v1/prediction_service_pb2.py  ## Generate the Python code of the contracts

$(generated)/v1/prediction_service_pb2.py: $(addprefix proto/,$(messages)) $(wildcard proto/oip/*.proto) $(installed)
	$(call generate,clients/python)
	$(call generate_open_inference,.)
	touch $@

# $(call generate,FOLDER): write the generated code of all contracts below FOLDER.
define generate
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Iproto \
  --python_out=$(1) --mypy_out=quiet:$(1) $(messages)
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Iproto \
  --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(services)
endef

# $(call generate_open_inference,FOLDER): the same below FOLDER/grpc_server/oip, from proto/oip.
define generate_open_inference
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Igrpc_server/oip=proto/oip \
  --python_out=$(1) --mypy_out=quiet:$(1) $(open_inference)
PATH="$(VENV)/bin:$$PATH" $(python) -m grpc_tools.protoc -Igrpc_server/oip=proto/oip \
  --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(open_inference_service)
endef

typescript := clients/typescript
# What the calls carry, and the details of errors, whose files come with googleapis-common-protos.
typescript_messages := prediction/v1/prediction_service.proto google/rpc/error_details.proto google/rpc/status.proto
typescript_options := outputServices=grpc-js,esModuleInterop=true,importSuffix=.js,env=node

.PHONY: typescript
typescript: $(installed)  ## Generate and compile the client in TypeScript; needs Node.js with npm
	cd $(typescript) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	rm -rf $(typescript)/src/generated $(typescript)/dist && mkdir $(typescript)/src/generated
	$(python) -m grpc_tools.protoc -Iproto \
	  -I"$$($(python) -c 'import pathlib, google.rpc as p; print(pathlib.Path(p.__path__[0]).parents[1])')" \
	  --plugin=$(typescript)/node_modules/.bin/protoc-gen-ts_proto \
	  --ts_proto_out=$(typescript)/src/generated --ts_proto_opt=$(typescript_options) $(typescript_messages)
	cd $(typescript) && npm run --silent build

.PHONY: openapi
openapi: $(installed)  ## Generate the OpenAPI document of the HTTP routes
	mkdir -p build
	$(python) proto/tools/openapi.py > build/openapi.yaml
	mv build/openapi.yaml proto/openapi.yaml
	$(python) proto/tools/openapi.py --port > build/openapi.json
	mv build/openapi.json grpc_server/gateway/files/openapi.json

.PHONY: envoy-tls
envoy-tls: $(installed)  ## Write the Envoy configuration with TLS from the plain one
	mkdir -p build
	$(python) k8s/components/envoy-json/envoy_tls.py > build/envoy.yaml
	mv build/envoy.yaml k8s/components/envoy-json/tls/envoy.yaml
# The page of the runbook that the alerts link to.
RUNBOOK ?= docs/operations.md
monitoring = PYTHONPATH=k8s $(python) -m monitoring --runbook '$(RUNBOOK)'

.PHONY: monitoring
monitoring: $(installed)  ## Generate Prometheus' rules and Grafana's dashboards; RUNBOOK=URL of docs/operations.md
	$(monitoring) k8s/components/monitoring

.PHONY: monitoring-svg
monitoring-svg: $(installed)  ## Draw panels of the dashboards for docs/monitoring.md; needs Debian's prometheus
	PYTHONPATH=tests:flows:k8s $(python) -m benchmarks.monitored_day

.PHONY: drift
drift: $(installed)  ## Fail if what is generated and committed is not what the contracts give
	rm -rf build/drift && mkdir -p build/drift
	$(call generate,build/drift)
	cd build/drift && find . -type f | sort | while read -r file; do \
	  diff -u "../../clients/python/$$file" "$$file"; done
	rm -rf build/drift-server && mkdir -p build/drift-server
	$(call generate_open_inference,build/drift-server)
	cd build/drift-server && find . -type f | sort | while read -r file; do diff -u "../../$$file" "$$file"; done
	$(python) proto/tools/openapi.py | diff -u proto/openapi.yaml -
	$(python) proto/tools/openapi.py --port | diff -u grpc_server/gateway/files/openapi.json -
	$(python) k8s/components/envoy-json/envoy_tls.py | diff -u k8s/components/envoy-json/tls/envoy.yaml -
	$(monitoring) build/drift/monitoring
	cd build/drift/monitoring && find . -type f | sort | while read -r file; do \
	  diff -u "../../../k8s/components/monitoring/$$file" "$$file"; done

# All commits rather than the last one: a break could be spread over two, or already be committed.
.PHONY: breaking
breaking: $(installed)  ## Fail if the contracts break what any commit since SINCE agreed on
	git rev-list $(addsuffix ..,$(SINCE))HEAD -- proto/prediction | while read -r commit; do \
	  $(VENV)/bin/buf breaking proto --against ".git#ref=$$commit,subdir=proto"; done

.PHONY: format
format: $(installed)  ## Format the code and the contracts
	$(python) -m black --quiet $(code)
	$(python) -m isort --quiet $(code)
	$(VENV)/bin/buf format --write proto

.PHONY: lint
lint: $(installed)  ## Check format, style, types, import rules, spelling and the contracts
	$(python) -m black --quiet --check $(code)
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
test: $(installed) swagger-ui  ## Run the tests, three files at once; ARGS=--numprocesses=0 for one test after the other
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
	  tests/test_batch.py tests/test_server.py tests/test_server_process.py tests/test_async_client.py $(ARGS)

.PHONY: train
train: $(installed)  ## Run the training flow here; ARGS are its parameters
	$(python) flows/train_flow.py run --model_name $(MODEL) $(ARGS)

swagger_ui := grpc_server/gateway/swagger/swagger-ui-bundle.js

.PHONY: swagger-ui
swagger-ui: $(swagger_ui)  ## Bring Swagger UI for /docs; too large for the repository

$(swagger_ui): grpc_server/gateway/swagger_ui.sh grpc_server/gateway/swagger-ui.txt grpc_server/gateway/swagger-ui.sha256 | $(installed)
	sh grpc_server/gateway/swagger_ui.sh $(python)
	touch $@

.PHONY: serve
serve: $(installed) $(swagger_ui)  ## Serve the champion of MODEL on port 50051, metrics on 8080
	$(python) -m grpc_server --host 127.0.0.1 --model-uri models:/$(MODEL)@champion $(ARGS)

.PHONY: serve-rest
serve-rest: $(installed) $(swagger_ui)  ## The same with Envoy in front: JSON over HTTP on port 8000
	$(python) k8s/components/envoy-json/serve_rest.py --model-uri models:/$(MODEL)@champion $(ARGS)

.PHONY: demo
demo: $(installed) $(swagger_ui)  ## Train on the embedded data set, register, serve, predict
	$(python) clients/demo.py $(if $(filter 1,$(KEEP)),--keep)

.PHONY: bench
bench: $(installed)  ## Measure the flow and the server on this machine
	PYTHONPATH=tests:flows $(python) -m benchmarks

.PHONY: bench-serve
bench-serve: $(installed)  ## Measure the server beside its alternatives, half an hour; ARGS="lanes peers batches overload log oip soak"
	$(python) -m pip install --quiet $(UV)
	PYTHONPATH=tests:flows $(python) -m benchmarks.serve $(ARGS)

.PHONY: bench-ensemble
bench-ensemble: $(installed)  ## Measure one row of an ensemble of five beside its members, a minute
	PYTHONPATH=tests:flows $(python) -m benchmarks.ensembles

.PHONY: bench-clients
bench-clients: $(installed)  ## Measure calls a second of the blocking client beside the asynchronous one, a minute
	PYTHONPATH=tests:flows $(python) -m benchmarks.clients

.PHONY: bench-score
bench-score: $(installed)  ## Measure offline scores beside the model in process, a minute; ARGS="--rows 20000000"
	PYTHONPATH=tests:flows $(python) -m benchmarks.scoring $(ARGS)

.PHONY: bench-search
bench-search: $(installed)  ## Measure the search beside its alternatives; ARGS as in --help, minutes to an hour
	PYTHONPATH=tests:flows $(python) -m benchmarks.search $(ARGS)

.PHONY: bench-large
bench-large: $(installed)  ## Measure how training's time and memory grow with the rows; ARGS="--rows 1000000", minutes
	PYTHONPATH=tests:flows $(python) -m benchmarks.large $(ARGS)

.PHONY: bench-quality
bench-quality: $(installed)  ## Measure how good the models are, beside other tools on public tables; ARGS as in --help, hours
	$(python) -m pip install --quiet $(UV)
	PYTHONPATH=tests:flows $(python) -m benchmarks.quality $(ARGS)

image_names = --prefix='$(IMAGE_PREFIX)' --tag='$(TAG)'

.PHONY: images
images:  ## Build both images with docker or podman, as IMAGE_PREFIX/NAME:TAG
	$(PYTHON) k8s/images.py build $(image_names) --flags='$(IMAGE_BUILD_FLAGS)'

sbom_tools := build/sbom-tools

.PHONY: sbom
sbom:  ## Write what is in both images to build/sbom, as CycloneDX
	test -x $(sbom_tools)/bin/cyclonedx-py || { $(PYTHON) -m venv $(sbom_tools) \
	  && $(sbom_tools)/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'; }
	$(PYTHON) k8s/sbom.py $(image_names) --tools $(sbom_tools)/bin

.PHONY: audit
audit:  ## Look up known faults of the locked versions; needs PyPI's or OSV's data, so CI does not
	test -x build/audit-tools/bin/pip-audit || { $(PYTHON) -m venv build/audit-tools \
	  && build/audit-tools/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'; }
	build/audit-tools/bin/pip-audit --require-hashes --disable-pip --requirement constraints.txt $(ARGS)

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
	rm -rf $(typescript)/node_modules $(typescript)/src/generated $(typescript)/dist
	if [[ "$(DATA)" == 1 ]]; then rm -rf .metaflow mlflow.db mlruns mlartifacts; \
	  else echo 'kept: .metaflow, mlflow.db, mlruns (make clean DATA=1 removes them)'; fi
