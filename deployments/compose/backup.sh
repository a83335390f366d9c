#!/usr/bin/env bash
# backup.sh [FOLDER]: the databases, models, datasets, signing keys and MLflow's artifacts of the running stack, into a new folder.
#
# Nothing is stopped. The order makes it whole: rows first, then the files that they name, which are written before
# their rows and never changed. What the S3 store holds is pushed again from the volumes after a restore.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${1:-backups/$(date -u +%Y%m%dT%H%M%SZ)}
if [ -e "$target" ]; then
    echo "backup: $target is there already; name a new folder" >&2
    exit 2
fi
unfinished="$target.unfinished"
rm -rf "$unfinished"
(umask 077 && mkdir -p "$unfinished")
trap 'rm -rf "$unfinished"' EXIT

for database in rayonnage mlflow; do
    docker compose exec -T postgres pg_dump -U rayonnage -d "$database" --format=custom >"$unfinished/$database.dump"
done
# One container sees every volume; .work holds half-made bundles, uploads are half-made ingests.
# tar's status 1 is a file that went or changed meanwhile, such as a marker; 2 is a real failure.
docker compose run --rm --no-deps -T tools sh -c '
    tar -C /srv -cf - --exclude="models/.work/*" --exclude="data/uploads/*" models data keys artifacts || [ $? -eq 1 ]
' >"$unfinished/volumes.tar"
tar -tf "$unfinished/volumes.tar" >/dev/null
(cd "$unfinished" && sha256sum -- *.dump volumes.tar >SHA256SUMS)
mv "$unfinished" "$target"
trap - EXIT
echo "Backed up to $target ($(du -sh "$target" | cut -f1)). It holds passwords' hashes and signing keys: keep it as safe as .secrets."
