"""Settings of network training."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rayonnage_shared.core.settings import Settings


class CamembertSettings(Settings):
    """What training the family `camembert` needs beside the workspace."""

    camembert_python: Path = Field(
        Path(".venv-camembert/bin/python"),
        description="Interpreter with torch, which trains the family `camembert`; `make camembert-env` makes it.",
    )
