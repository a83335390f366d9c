"""The parts of the platform that `make run` does not install, and the make words that install them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from rayonnage_shared.core.errors import RayonnageError


class PartMissing(RayonnageError):
    status, code, title = 503, "part_missing", "An optional part is not installed"


@dataclass(frozen=True, slots=True)
class OptionalPart:
    """An extra of the workspace: its name for people, a module that it brings, and the make word that installs it."""

    name: str
    module: str
    make_word: str

    @property
    def remedy(self) -> str:
        """Return what is missing and how to install it, in one sentence."""
        return f"{self.name} is not installed; `make {self.make_word}` installs it."

    def is_installed(self) -> bool:
        """Return whether the module can be imported, without importing it."""
        return find_spec(self.module) is not None

    def require(self) -> None:
        """Raise PartMissing, which names the make word, if the part is not installed."""
        if not self.is_installed():
            raise PartMissing(self.remedy)


DVC = OptionalPart("DVC", "dvc", "dvc")
S3 = OptionalPart("The S3 client", "botocore", "dvc")
PLOTS = OptionalPart("Matplotlib", "matplotlib", "plots")
MLFLOW = OptionalPart("MLflow's client", "mlflow", "mlflow-client")
