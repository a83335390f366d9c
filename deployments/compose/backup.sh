#!/usr/bin/env bash
# backup.sh [FOLDER]: back up the databases, models, datasets, signing keys and MLflow's artifacts of the running stack to a new folder.
#
# Nothing is stopped. The backup is consistent, because rows are dumped before the files that they refer to, and these files
# are written before their rows and never change. The S3 store is not backed up: it can be filled again from the volumes.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${1:-backups/$(date -u +%Y%m%dT%H%M%SZ)}
if [ -e "$target" ]; then
    echo "backup: $target already exists; choose a new folder" >&2
    exit 2
fi
unfinished="$target.unfinished"
rm -rf "$unfinished"
(umask 077 && mkdir -p "$unfinished")
trap 'rm -rf "$unfinished"' EXIT

for database in rayonnage mlflow; do
    docker compose exec -T postgres pg_dump -U rayonnage -d "$database" --format=custom >"$unfinished/$database.dump"
done
# The container `tools` mounts every volume. Unfinished bundles (.work) and uploads are left out.
# tar exits with 1 if a file was removed or changed meanwhile, such as a marker file, and with 2 for a real failure.
docker compose run --rm --no-deps -T tools sh -c '
    tar -C /srv -cf - --exclude="models/.work/*" --exclude="data/uploads/*" --exclude="data/cache/*" models data keys artifacts || [ $? -eq 1 ]
' >"$unfinished/volumes.tar"
tar -tf "$unfinished/volumes.tar" >/dev/null
(cd "$unfinished" && sha256sum -- *.dump volumes.tar >SHA256SUMS)
mv "$unfinished" "$target"
trap - EXIT
echo "Backed up to $target ($(du -sh "$target" | cut -f1)). It contains password hashes and signing keys: keep it as safe as .secrets."
