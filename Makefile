# The commands of the project; `make help` lists them. Needs only Python 3.11 to 3.13 and make.

PYTHON ?= python3
BOOTSTRAP := $(PYTHON) deployments/local/bootstrap.py
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # tests start hundreds of processes, so cached byte code saves time
PYTEST := $(BIN)/python -m pytest
QUICK := -m "not system and not monitoring and not models and not compose and not profiles"
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder # the tests of a file run in one process, since they share fixtures
SLOWEST := --durations=10 --durations-min=0.5
TRAIN_CSV ?= data/interim/rakuten_train.csv
PRODUCTS ?= data/sample/features.csv
COMPOSE := RAYONNAGE_REVISION=$$(git describe --always --dirty 2>/dev/null) docker compose
IMAGES = $$(docker compose --profile airflow config --images | grep ^rayonnage/ | sort -u)
SYSTEM_NOTE := Deselected tests run by \`make test-system\` (PostgreSQL, Prometheus, Chromium), \`make test-monitoring\` (alerts and dashboards), \`make test-models\` (networks, S3, MLflow), \`make test-compose\` and \`make test-profiles\` (containers).

.DEFAULT_GOAL := help
.PHONY: run stop status logs swagger dvc mlflow mlflow-client plots keras camembert-env env certs up down down-v ps docker-up docker-down \
	docker-ps docker-cp-traincsv init-airflow start api full-run full-run-api no-train-run create_environment requirements \
	airflow-up airflow-down backup restore images image-sizes scan-images sample ingest train evaluate predict monitor \
	dashboard push pull lint types format check test suites test-compose test-models test-monitoring test-system \
	test-profiles check-rules env-example dashboards docs-examples docs-pictures bench quality models real release help clean install-dev \
	install-monitor install-models

##@ Run here, without Docker

run: ## install and start the platform; Ctrl-C stops it (DEMO=0 starts without sample data)
	@$(BOOTSTRAP) rayonnage up

api: run ## same as `make run`

create_environment: ## create .venv with what `make run` needs and DVC, and configure the remote of `dvc pull`
	@$(BOOTSTRAP) --extra dvc rayonnage dvc-config
	@echo "Activate it with: source .venv/bin/activate"

requirements: ## bring .venv up to date with uv.lock
	@$(BOOTSTRAP)

stop: ## stop the platform that was started from this folder
	@$(BOOTSTRAP) --no-sync rayonnage stop

status: ## show every process and whether it is ready
	@$(BOOTSTRAP) --no-sync rayonnage status

logs: ## follow the logs, of the containers if `make run` is not running (ARGS="--request ID" shows one request)
	@if [ -e .run/supervisord.pid ]; then $(BOOTSTRAP) --no-sync rayonnage logs $(ARGS); \
	elif [ -n "$(ARGS)" ]; then docker compose logs --no-color --no-log-prefix \
		| docker compose run --rm --no-deps --no-TTY tools rayonnage logs $(ARGS) -; \
	else docker compose logs --no-color --follow --tail 20 $$(docker compose config --services) \
		| docker compose run --rm --no-deps --no-TTY --env FORCE_COLOR=$$([ -t 1 ] && echo 1) tools rayonnage logs -; fi

swagger: ## print the address of the API documentation page
	@if [ -e .run/supervisord.pid ]; then \
		port=$$(sed -n 's/^GATEWAY_PORT=//p' .env); echo "http://127.0.0.1:$${port:-8000}/docs"; \
		else echo "https://localhost$$(docker compose port nginx 8443 | sed 's/.*:/:/; s/^:443$$//')/docs"; fi

mlflow: ## start the MLflow server on port 5001 over the runs recorded here; installs it the first time
	@$(BOOTSTRAP) --extra mlflow rayonnage mlflow

dvc: ## install DVC, for `make push`, `make pull` and data from S3; a running platform pushes from then on
	@$(BOOTSTRAP) --extra dvc

mlflow-client: ## install MLflow's client, to record runs on a server; a running platform does so from then on
	@$(BOOTSTRAP) --extra mlflow-client

plots: ## install matplotlib, with which each training draws its plots
	@$(BOOTSTRAP) --extra plots

keras: ## install TensorFlow, for the families lstm, vgg16 and resnet50
	@$(BOOTSTRAP) --extra keras

camembert-env: .venv-camembert/.complete ## create the environment with torch, for the family camembert

##@ Run in containers (docs/deploy.md)

env: ## write .env and the secrets that containers read; existing values stay
	@$(BOOTSTRAP) rayonnage env

certs: ## create a TLS certificate for nginx (ARGS="--host shop.example --renew")
	@$(BOOTSTRAP) rayonnage certs $(ARGS)

up: env certs ## build and start all containers, and wait until they are ready
	@$(COMPOSE) up --detach --build --wait
	@$(MAKE) --no-print-directory swagger

down: ## stop and remove all containers, those of Airflow too; volumes stay
	@docker compose --profile airflow down

down-v: ## the same, and delete the volumes: every model, dataset, user and job
	@docker compose --profile airflow down --volumes

ps: ## list the containers
	@docker compose ps --all

docker-up: up ## same as `make up`

docker-down: down ## same as `make down`

docker-ps: ps ## same as `make ps`

docker-cp-traincsv: ## ingest a labelled CSV of this machine into the containers (TRAIN_CSV=data/interim/rakuten_train.csv)
	@test -f "$(TRAIN_CSV)" || { echo "There is no $(TRAIN_CSV); name yours: make docker-cp-traincsv TRAIN_CSV=file.csv" >&2; exit 1; }
	@docker compose run --rm --volume "$(abspath $(TRAIN_CSV)):/input/train.csv:ro" tools \
		rayonnage ingest /input/train.csv $(ARGS)

airflow-up: env certs ## start Airflow with its retraining DAG on port 8080, and the other containers if they are not running
	@$(COMPOSE) --profile airflow up --detach --build --wait airflow
	@echo "http://$$(docker compose --profile airflow port airflow 8080), user admin, password in .secrets/airflow_admin_password"

init-airflow: env certs ## build Airflow's image and create its database, before the first `make start`
	@$(COMPOSE) --profile airflow build airflow
	@$(COMPOSE) --profile airflow run --rm airflow-database

start: airflow-up ## same as `make airflow-up`

airflow-down: ## stop and remove Airflow; its run history stays
	@docker compose --profile airflow rm --stop --force airflow airflow-database

backup: ## back up the databases and volumes of the running containers: make backup TO=folder
	@deployments/compose/backup.sh $(TO)

restore: ## restore a backup: make restore FROM=folder
	@deployments/compose/restore.sh $(FROM)

images: ## build all images (RAYONNAGE_VERSION=1.2 sets their tag)
	@$(COMPOSE) --profile airflow build

image-sizes: ## print the size of each image; fail if one exceeds its limit
	@$(PYTHON) deployments/images/sizes.py $(IMAGES)

scan-images: ## search the images for secrets, compilers and other things that must not be in them
	@$(PYTHON) deployments/images/scan.py $(IMAGES)

##@ Data and models, from the command line

sample: ## regenerate the sample catalogue
	@$(BOOTSTRAP) rayonnage sample $(ARGS)

ingest: ## ingest labelled products: make ingest ARGS="features.csv target.csv --images photos.zip"
	@$(BOOTSTRAP) rayonnage ingest $(ARGS)

train: ## train on the latest dataset (ARGS="--text tfidf-svm")
	@$(BOOTSTRAP) rayonnage train $(ARGS)

evaluate: ## print the metrics of the champion on the test split (ARGS="--classes")
	@$(BOOTSTRAP) rayonnage evaluate $(ARGS)

predict: ## predict one product or a CSV file: make predict ARGS="--help"
	@$(BOOTSTRAP) rayonnage predict $(ARGS)

monitor: ## write a drift report to data/drift (ARGS="--hours 48 --fail-on-drift")
	@$(BOOTSTRAP) --extra monitor rayonnage monitor $(ARGS)

dashboard: ## show services, champion, jobs, traffic and drift live in the terminal (ARGS="--once")
	@$(BOOTSTRAP) --no-sync rayonnage dashboard $(ARGS)

full-run: ## train, then predict, write a drift report and show the state (ARGS for `rayonnage train`, PRODUCTS=file.csv)
	@$(BOOTSTRAP) rayonnage train $(ARGS)
	@$(MAKE) --no-print-directory no-train-run

full-run-api: full-run ## the same, then start the platform
	@$(MAKE) --no-print-directory run

no-train-run: ## predict the products of PRODUCTS, write a drift report and show the state
	@mkdir -p data/predictions
	@$(BOOTSTRAP) rayonnage predict --csv "$(PRODUCTS)" --output data/predictions/products.csv
	@echo "Predictions: data/predictions/products.csv"
	@$(BOOTSTRAP) --extra monitor rayonnage monitor
	@$(BOOTSTRAP) --no-sync rayonnage dashboard --once

push: ## push datasets, photos and models to the DVC remote, and write the pointer files to commit
	@$(BOOTSTRAP) --extra dvc rayonnage push $(ARGS)

pull: ## pull the champion and the current dataset from the DVC remote (ARGS="--all")
	@$(BOOTSTRAP) --extra dvc rayonnage pull $(ARGS)

##@ Check a change

install-dev: ## install the development tools into .venv
	@$(BOOTSTRAP) --dev

lint: install-dev ## check style, formatting and import rules
	@$(BIN)/ruff check --no-cache . # without the cache, since one from other settings has hidden an error
	@$(BIN)/ruff format --no-cache --check .
	@$(BIN)/lint-imports

types: install-dev ## check types
	@$(BIN)/mypy

format: install-dev ## format the code and apply automatic fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint types ## run lint, types and unit tests
	@$(PYTEST) tests/unit $(QUICK) $(SIDE_BY_SIDE) $(SLOWEST) -q $(ARGS)
	@echo "$(SYSTEM_NOTE)"

test: install-dev ## run the unit, contract, model and end-to-end tests (ARGS="-k word")
	@$(PYTEST) tests/e2e tests/ml tests/contract tests/unit $(QUICK) $(SIDE_BY_SIDE) $(SLOWEST) $(ARGS)
	@echo "$(SYSTEM_NOTE)"

suites: ## run the test suites whose inputs changed and record the passes in .ci/passed.json (ARGS="--all", or names)
	@PYTHON=$(PYTHON) .ci/run suites $(ARGS)

test-compose: install-dev ## build the images and test the containers (needs a Docker engine and root)
	@$(PYTEST) tests/compose -m compose $(ARGS)

test-models: install-models camembert-env ## test the neural networks, DVC on a real S3 server, and MLflow
	@$(PYTEST) tests/models -m models $(SIDE_BY_SIDE) $(ARGS)

test-monitoring: install-monitor ## fire every alert and run every query of the dashboards (needs Prometheus, Alertmanager, node-exporter)
	@$(PYTEST) tests/monitoring -m monitoring $(ARGS)

test-system: install-monitor ## run the tests that need PostgreSQL, Prometheus and Chromium
	@$(PYTEST) tests -m system $(ARGS)

test-profiles: install-dev ## test Airflow and the drift report in containers (needs a Docker engine and root)
	@$(PYTEST) tests/compose -m profiles $(ARGS)

check-rules: ## check the alert rules and their tests, and the Alertmanager routes (needs Prometheus and Alertmanager)
	@promtool check config deployments/prometheus/prometheus.yml
	@promtool test rules deployments/prometheus/rules/*_test.yml
	@amtool check-config deployments/alertmanager/alertmanager.yml

##@ Regenerate files that are committed

env-example: ## write .env.example from the settings classes
	@$(BOOTSTRAP) rayonnage env-example

dashboards: install-dev ## write the JSON of the Grafana dashboards (deployments/grafana/provisioning)
	@$(BIN)/python -m deployments.grafana.dashboards

docs-examples: install-dev ## record the answers in the API documentation again
	@DOCS_EXAMPLES=services/gateway/rayonnage_gateway/docs/examples.json $(PYTEST) tests/e2e/test_documented_examples.py -k every

docs-pictures: install-monitor ## take the screenshots in docs/ again (needs Chromium, Prometheus and Alertmanager)
	@DOCS_PICTURE=docs/pictures/swagger-predict.png $(PYTEST) tests/e2e/test_docs_page.py -m system -k newcomer
	@DOCS_PICTURES=docs/pictures $(PYTEST) tests/monitoring/test_dashboards.py -m monitoring -k test_page

##@ Measure

bench: install-dev ## measure the speed of the platform on this machine
	@$(BIN)/python -m tests.bench.http
	@$(BIN)/python -m tests.bench.stages
	@$(BIN)/python -m tests.bench.overload
	@$(BIN)/python -m tests.bench.memory --requests 20000
	@$(BIN)/python -m tests.bench.peers
	@$(BIN)/python -m tests.bench.gateway

quality: install-dev ## measure model quality on real products: make quality DATA=folder
	@$(BIN)/python -m tests.bench.quality $(DATA)
	@$(BIN)/python -m tests.bench.after_demo $(DATA)

models: install-models camembert-env ## compare every family and fusion on real products: make models DATA=folder
	@$(BIN)/python -m tests.bench.families $(DATA)

real: install-dev ## run the whole path over HTTP on real products: make real DATA=folder
	@$(BIN)/python -m tests.bench.real $(DATA)

##@ Release

release: ## check, write the version and the changelog, commit and tag: make release VERSION=0.2.0
	@$(PYTHON) deployments/release.py make "$(VERSION)"

##@ Other

help: ## list these commands
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z_-]+:.*## / { printf "  \033[1m%-19s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean: ## delete what was installed, built and logged; datasets, models and .env stay
	@if [ -x $(BIN)/rayonnage ]; then $(BIN)/rayonnage stop; fi
	rm -rf .venv .venv-camembert .uv .run logs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv-camembert/.complete: deployments/camembert/requirements.txt
	@$(BOOTSTRAP) python -m venv --clear --without-pip .venv-camembert
	@$(PYTHON) -m pip --python .venv-camembert/bin/python install --quiet --requirement $<
	@touch $@

install-monitor: install-dev
	@$(BOOTSTRAP) --extra monitor

install-models: install-dev
	@$(BOOTSTRAP) --extra test-models
