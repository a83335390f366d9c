# What one does with Rayonnage; `make help` lists it. Needs Python 3.11 to 3.13 and make, nothing else.

PYTHON ?= python3
BOOTSTRAP := $(PYTHON) deployments/local/bootstrap.py
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
QUICK := -m "not system and not monitoring and not models and not compose and not profiles"
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder # each file's tests in one process, since they share what they made
IMAGE_FOLDERS := services/auth services/gateway services/ingest services/predict services/train deployments/mlflow deployments/airflow
IMAGES := $(foreach folder,$(IMAGE_FOLDERS),rayonnage/$(notdir $(folder)):$(or $(RAYONNAGE_VERSION),latest))
SYSTEM_NOTE := Deselected tests run by \`make test-system\` (PostgreSQL, Prometheus, Chromium), \`make test-monitoring\` (alerts and dashboards), \`make test-models\` (networks, S3, MLflow), \`make test-compose\` and \`make test-profiles\` (containers).

.DEFAULT_GOAL := help
.PHONY: help run env certs stop status logs up down down-v ps swagger docker-up docker-down docker-down-v docker-logs backup restore \
	airflow-up airflow-down \
	images image-sizes scan-images \
	ingest train evaluate predict monitor dashboard push pull sample test test-system test-monitoring test-models test-compose test-profiles check check-rules types lint format env-example dashboards \
	mlflow real quality models bench docs-picture docs-pictures clean keras install install-dev install-models install-monitor camembert-env

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

logs: ## follow the logs of all processes or, without `make run`, of the containers; ARGS="--request ID" shows one request
	@if [ -e .run/supervisord.pid ]; then $(BOOTSTRAP) --no-sync rayonnage logs $(ARGS); \
	elif [ -n "$(ARGS)" ]; then docker compose logs --no-color --no-log-prefix \
		| docker compose run --rm --no-deps --no-TTY tools rayonnage logs $(ARGS) -; \
	else docker compose logs --follow --tail 20; fi

up: env certs ## build and start all containers, and wait until they are ready (docs/deploy.md)
	@RAYONNAGE_REVISION=$$(git describe --always --dirty 2>/dev/null) docker compose up --detach --build --wait
	@$(MAKE) --no-print-directory swagger

down: ## stop and remove the containers, Airflow's too; volumes stay
	@docker compose --profile airflow down

down-v: ## the same, and delete the volumes: every model, dataset, user and job
	@docker compose --profile airflow down --volumes

ps: ## show the containers
	@docker compose ps --all

swagger: ## print the address of the documentation page
	@if [ -e .run/supervisord.pid ]; then \
		port=$$(sed -n 's/^GATEWAY_PORT=//p' .env); echo "http://127.0.0.1:$${port:-8000}/docs"; \
		else echo "https://localhost$$(docker compose port nginx 8443 | sed 's/.*:/:/; s/^:443$$//')/docs"; fi

docker-up: up
docker-down: down
docker-down-v: down-v
docker-logs:
	@docker compose logs --follow --tail 20

airflow-up: env certs ## start Airflow, whose DAG retrains, on port 8080 beside the containers (and those, if they do not run)
	@docker compose --profile airflow up --detach --build --wait airflow
	@echo "http://$$(docker compose --profile airflow port airflow 8080), user admin, password in .secrets/airflow_admin_password"

airflow-down: ## stop and remove Airflow; what it knows of its runs stays
	@docker compose --profile airflow rm --stop --force airflow airflow-database

images: ## build the images of the services, of MLflow and of Airflow (RAYONNAGE_VERSION=1.2 names their tag)
	@set -e; revision=$$(git describe --always --dirty 2>/dev/null || true); for folder in $(IMAGE_FOLDERS); do \
		docker build --file $$folder/Dockerfile --build-arg RAYONNAGE_REVISION=$$revision \
			--tag rayonnage/$$(basename $$folder):$(or $(RAYONNAGE_VERSION),latest) .; done

image-sizes: ## print what the images weigh; fails when one is too heavy
	@$(PYTHON) deployments/images/sizes.py $(IMAGES)

scan-images: ## look into the images for secrets, compilers, root and what else must not be there
	@$(PYTHON) deployments/images/scan.py $(IMAGES)

backup: ## back databases and volumes of the running containers up: make backup TO=folder
	@deployments/compose/backup.sh $(TO)

restore: ## put databases and volumes back: make restore FROM=folder
	@deployments/compose/restore.sh $(FROM)

ingest: ## ingest labelled products: make ingest ARGS="features.csv target.csv --images photos.zip"
	@$(BOOTSTRAP) rayonnage ingest $(ARGS)

train: ## train on the newest dataset, here (ARGS="--text tfidf-svm" and so on)
	@$(BOOTSTRAP) rayonnage train $(ARGS)

evaluate: ## print the champion's figures on the test split (ARGS="--classes")
	@$(BOOTSTRAP) rayonnage evaluate $(ARGS)

predict: ## predict one product or a CSV, here: make predict ARGS="--help"
	@$(BOOTSTRAP) rayonnage predict $(ARGS)

monitor: ## have the products and answers drifted? writes data/drift (ARGS="--hours 48 --fail-on-drift")
	@$(BOOTSTRAP) --extra monitor rayonnage monitor $(ARGS)

dashboard: ## services, champion, jobs, traffic and drift in this terminal, live; Ctrl-C ends it (ARGS="--once")
	@$(BOOTSTRAP) --no-sync rayonnage dashboard $(ARGS)

push: ## push datasets, photos and models to the DVC remote, and write the pointers to commit
	@$(BOOTSTRAP) rayonnage push $(ARGS)

pull: ## fetch the champion and the current dataset from the DVC remote (ARGS="--all")
	@$(BOOTSTRAP) rayonnage pull $(ARGS)

sample: ## generate the sample catalogue anew
	@$(BOOTSTRAP) rayonnage sample $(ARGS)

test: install-dev ## run unit, contract, model and end-to-end tests (ARGS="-k word")
	@$(PYTEST) tests/e2e tests/unit tests/contract tests/ml $(QUICK) $(SIDE_BY_SIDE) $(ARGS)
	@echo "$(SYSTEM_NOTE)"

test-system: install-monitor ## run the tests that need PostgreSQL, Prometheus and Chromium
	@$(PYTEST) tests -m system $(ARGS)

test-monitoring: install-monitor ## make every alert fire that can, and run what the dashboards ask (needs Prometheus, Alertmanager, node-exporter)
	@$(PYTEST) tests/monitoring -m monitoring $(ARGS)

check-rules: ## check and try the rules, and check Alertmanager's routes (needs Prometheus and Alertmanager here)
	@promtool check config deployments/prometheus/prometheus.yml
	@promtool test rules deployments/prometheus/rules/*_test.yml
	@amtool check-config deployments/alertmanager/alertmanager.yml

test-models: install-models camembert-env ## run the tests of the networks, of DVC on a real S3 server and of MLflow
	@$(PYTEST) tests/models -m models $(SIDE_BY_SIDE) $(ARGS)

test-compose: install-dev ## build the images and try the containers on this machine's Docker engine (needs root)
	@$(PYTEST) tests/compose -m compose $(ARGS)

test-profiles: install-dev ## the same for the profiles airflow and monitor
	@$(PYTEST) tests/compose -m profiles $(ARGS)

docs-picture: install-dev ## take the picture of the documentation page in docs/ anew (needs Chromium)
	@DOCS_PICTURE=docs/swagger-predict.png $(PYTEST) tests/e2e/test_docs_page.py -m system -k newcomer

docs-pictures: install-monitor ## take the pictures of what watches the platform in docs/pictures anew (needs Prometheus, Alertmanager and Chromium)
	@DOCS_PICTURES=docs/pictures $(PYTEST) tests/monitoring/test_dashboards.py -m monitoring -k test_page

check: lint types ## lint, types, import rules and unit tests
	@$(PYTEST) tests/unit $(QUICK) $(SIDE_BY_SIDE) -q $(ARGS)
	@echo "$(SYSTEM_NOTE)"

lint: install-dev ## check style and formatting
	@$(BIN)/ruff check --no-cache . # a cache made under other settings has hidden a fault
	@$(BIN)/ruff format --no-cache --check .

types: install-dev ## check types and import rules
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install-dev ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

mlflow: ## MLflow's pages over what was trained here, on port 5001; installs its server the first time
	@$(BOOTSTRAP) --extra mlflow rayonnage mlflow

dashboards: install-dev ## write the JSON of Grafana's dashboards anew (deployments/grafana/dashboards)
	@$(BIN)/python -m deployments.grafana.dashboards

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

install-monitor: install-dev
	@$(BOOTSTRAP) --extra monitor

install-models: install-dev
	@$(BOOTSTRAP) --extra test-models

keras: ## install TensorFlow, for the families lstm, vgg16 and resnet50
	@$(BOOTSTRAP) --extra keras
