"""The dashboards as the files that Grafana reads."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deployments.grafana.dashboards.hosts import hosts
from deployments.grafana.dashboards.overview import overview
from deployments.grafana.dashboards.predictions import predictions
from deployments.grafana.dashboards.training import training

FOLDER = Path(__file__).parents[1] / "provisioning" / "dashboards" / "rayonnage"
DASHBOARDS = {"overview": overview, "predictions": predictions, "training": training, "hosts": hosts}


def rendered() -> dict[str, str]:
    """Return the text of each file by its name. The text is deterministic."""
    return {
        f"{name}.json": json.dumps(build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for name, build in DASHBOARDS.items()
    }
