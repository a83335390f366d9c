#!/usr/bin/env bash
# restore.sh FOLDER: puts the stack back to what `backup.sh` wrote there. What is there now is lost.
#
# The services stop, databases and volumes are replaced, and everything starts again. Run it a second time if it was
# interrupted: it begins by checking the backup, and nothing of it is changed.
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
