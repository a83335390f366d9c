"""`make dashboards`: write the JSON of every dashboard to the folder from which Grafana is provisioned."""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.grafana.dashboards.files import FOLDER, rendered


def main(folder: Path = FOLDER) -> None:
    """Write the files, and delete those of dashboards that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = rendered()
    for stale in folder.glob("*.json"):
        if stale.name not in wanted:
            stale.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(wanted)} dashboards in {folder}\n")


if __name__ == "__main__":
    main()
