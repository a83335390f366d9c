"""Exit with 0 if Airflow's API reports that database, scheduler and DAG processor are healthy."""

from __future__ import annotations

import json
import sys
import urllib.request

URL = "http://127.0.0.1:8080/api/v2/monitor/health"
NEEDED = ("metadatabase", "scheduler", "dag_processor")


def main() -> int:
    """Print what is not healthy, and return the exit status."""
    try:
        with urllib.request.urlopen(URL, timeout=4) as answer:
            found = json.load(answer)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the API does not respond ({error})\n")
        return 1
    trouble = [name for name in NEEDED if found[name]["status"] != "healthy"]
    if trouble:
        sys.stderr.write(f"not healthy: {', '.join(trouble)}\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
