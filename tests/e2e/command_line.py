"""The command `rayonnage` in a platform's folder, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.platform import environment_without_settings
from tests.waiting import PATIENCE_S

RAYONNAGE = [sys.executable, "-m", "rayonnage_shared.cli.main"]


def rayonnage(
    home: Path, *arguments: str, variables: Mapping[str, str] | None = None, within_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run `rayonnage` to its end, with these additional environment variables, 150 columns wide unless they say so."""
    return subprocess.run(
        [*RAYONNAGE, *arguments],
        cwd=home,
        env=environment_without_settings() | {"COLUMNS": "150", **(variables or {})},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
