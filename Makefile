# What one does with Rayonnage; `make help` lists it. Needs Python 3.11 to 3.13 and make, nothing else.

PYTHON ?= python3
BOOTSTRAP := $(PYTHON) deployments/local/bootstrap.py
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
SYSTEM_NOTE := Deselected tests run by \`make test-system\` (PostgreSQL, Prometheus, Chromium) and \`make test-models\` (networks, S3, MLflow).

.DEFAULT_GOAL := help
.PHONY: help run env certs stop status logs ingest train evaluate predict push pull sample test test-system test-models check lint format env-example \
	mlflow real quality models bench docs-picture clean keras install install-dev install-models camembert-env

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## install and start the whole platform; Ctrl-C stops it (DEMO=0 starts empty)
	@$(BOOTSTRAP) rayonnage up

env: ## write .env and the secrets that containers read; what is there stays
	@$(BOOTSTRAP) rayonnage env

certs: ## make a certificate for nginx (ARGS="--host shop.example --renew")
	@$(BOOTSTRAP) rayonnage certs $(ARGS)

stop: ## stop the platform that runs from this folder
	@$(BOOTSTRAP) --no-sync rayonnage stop

status: ## show each process and whether it is ready
	@$(BOOTSTRAP) --no-sync rayonnage status

logs: ## follow the logs of all processes
	@$(BOOTSTRAP) --no-sync rayonnage logs

ingest: ## ingest labelled products: make ingest ARGS="features.csv target.csv --images photos.zip"
	@$(BOOTSTRAP) rayonnage ingest $(ARGS)

train: ## train on the newest dataset, here (ARGS="--text tfidf-svm" and so on)
	@$(BOOTSTRAP) rayonnage train $(ARGS)

evaluate: ## print the champion's figures on the test split (ARGS="--classes")
	@$(BOOTSTRAP) rayonnage evaluate $(ARGS)

predict: ## predict one product or a CSV, here: make predict ARGS="--help"
	@$(BOOTSTRAP) rayonnage predict $(ARGS)

push: ## push datasets, photos and models to the DVC remote, and write the pointers to commit
	@$(BOOTSTRAP) rayonnage push $(ARGS)

pull: ## fetch the champion and the current dataset from the DVC remote (ARGS="--all")
	@$(BOOTSTRAP) rayonnage pull $(ARGS)

sample: ## generate the sample catalogue anew
	@$(BOOTSTRAP) rayonnage sample $(ARGS)

test: install-dev ## run unit, contract, model and end-to-end tests (ARGS="-k word")
	@$(PYTEST) tests -m "not system and not models" $(ARGS)
	@echo "$(SYSTEM_NOTE)"

test-system: install-dev ## run the tests that need PostgreSQL, Prometheus and Chromium
	@$(PYTEST) tests -m system $(ARGS)

test-models: install-models camembert-env ## run the tests of the networks, of DVC on a real S3 server and of MLflow
	@$(PYTEST) tests/models -m models $(ARGS)

docs-picture: install-dev ## take the picture of the documentation page in docs/ anew (needs Chromium)
	@DOCS_PICTURE=docs/swagger-predict.png $(PYTEST) tests/e2e/test_docs_page.py -m system -k newcomer

check: lint ## lint, types, import rules and unit tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) tests/unit -m "not system and not models" -q $(ARGS)
	@echo "$(SYSTEM_NOTE)"

lint: install-dev ## check style and formatting
	@$(BIN)/ruff check --no-cache . # a cache made under other settings has hidden a fault
	@$(BIN)/ruff format --no-cache --check .

format: install-dev ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

mlflow: ## MLflow's pages over what was trained here, on port 5001; installs its server the first time
	@$(BOOTSTRAP) --extra mlflow rayonnage mlflow

env-example: ## write .env.example anew from the settings classes
	@$(BOOTSTRAP) rayonnage env-example

real: install-dev ## the whole path over HTTP on real products: make real DATA=folder
	@$(BIN)/python -m tests.bench.real $(DATA)

quality: install-dev ## model quality on real products: make quality DATA=folder
	@$(BIN)/python -m tests.bench.quality $(DATA)

models: install-models camembert-env ## every family and fusion on real products: make models DATA=folder
	@$(BIN)/python -m tests.bench.families $(DATA)

bench: install-dev ## speed of the platform on this machine
	@$(BIN)/python -m tests.bench.http

camembert-env: .venv-camembert/.complete ## make the environment with torch in which the family camembert is trained

.venv-camembert/.complete: deployments/camembert/requirements.txt
	@$(BOOTSTRAP) python -m venv --clear --without-pip .venv-camembert
	@$(PYTHON) -m pip --python .venv-camembert/bin/python install --quiet --requirement $<
	@touch $@

clean: ## remove what was installed, built and logged; datasets, models and .env stay
	@if [ -x $(BIN)/rayonnage ]; then $(BIN)/rayonnage stop; fi
	rm -rf .venv .venv-camembert .uv .run logs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

install:
	@$(BOOTSTRAP)

install-dev:
	@$(BOOTSTRAP) --dev

install-models: install-dev
	@$(BOOTSTRAP) --extra test-models

keras: ## install TensorFlow, for the families lstm, vgg16 and resnet50
	@$(BOOTSTRAP) --extra keras
