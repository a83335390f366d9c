"""Product type codes and their names; names come from a file, never from code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rayonnage_shared.core.errors import RayonnageError


class CategoriesNotReadable(RayonnageError):
    status, code, title = 500, "categories_not_readable", "The file of category names cannot be used"


@dataclass(frozen=True, slots=True)
class Categories:
    """The known product type codes in ascending order, with a French name for each."""

    codes: tuple[int, ...]
    labels: dict[int, str]

    def label(self, code: int) -> str:
        """Return the name of `code`, or the code itself if it has no name (a code added by an ingest)."""
        return self.labels.get(code, str(code))


def load_categories(path: Path | None = None) -> Categories:
    """Return the categories in `path`, a JSON object {code: label}; or the 27 built-in ones if it is None.

    Raises CategoriesNotReadable.
    """
    try:
        source = path or resources.files(__package__) / "categories.json"
        named = json.loads(source.read_text(encoding="utf-8"))
        labels = {int(code): str(label).strip() for code, label in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CategoriesNotReadable(f"CATEGORIES_PATH must hold a JSON object {{code: label}}: {error}") from error
    if len(labels) < 2 or min(labels) < 0 or not all(labels.values()):
        raise CategoriesNotReadable("CATEGORIES_PATH must hold at least two codes, each a number with a label.")
    return Categories(codes=tuple(sorted(labels)), labels=dict(sorted(labels.items())))
