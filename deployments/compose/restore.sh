#!/usr/bin/env bash
# restore.sh FOLDER: restore a backup that `backup.sh` wrote. All current data is lost.
#
# Checks the backup, stops the services, replaces databases and volumes, and starts everything again. If it was interrupted,
# run it again; the backup itself is never changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

source=${1:?the folder of a backup}
(cd "$source" && sha256sum --check --quiet SHA256SUMS)

writers=(nginx gateway auth ingest train train-worker predict mlflow)
docker compose stop "${writers[@]}"
docker compose up -d --wait --no-deps postgres
for database in rayonnage mlflow; do
    docker compose exec -T postgres dropdb -U rayonnage --if-exists --force "$database"
    docker compose exec -T postgres createdb -U rayonnage "$database"
    docker compose exec -T postgres pg_restore -U rayonnage -d "$database" --exit-on-error --single-transaction <"$source/$database.dump"
done
docker compose run --rm --no-deps -T tools sh -c '
    find /srv/models /srv/data /srv/keys /srv/artifacts -mindepth 1 -delete && tar -C /srv -xf -' <"$source/volumes.tar"
docker compose up -d --wait "${writers[@]}"
echo "Restored from $source."
