"""Settings of network training."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rayonnage_shared.core.settings import Settings


class CamembertSettings(Settings):
    """The torch environment for training the family `camembert`."""

    camembert_python: Path = Field(
        Path(".venv-camembert/bin/python"),
        description="Interpreter with torch, which trains the family `camembert`; `make camembert-env` creates it.",
    )
