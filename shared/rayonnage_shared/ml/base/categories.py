"""Product type codes and their names; names come from a file, never from code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from rayonnage_shared.core.errors import RayonnageError


class CategoriesNotReadable(RayonnageError):
    status, code, title = 500, "categories_not_readable", "The file of category names cannot be used"


@dataclass(frozen=True, slots=True)
class Categories:
    """The known product type codes in ascending order, with a name for each, and names in further languages."""

    codes: tuple[int, ...]
    labels: dict[int, str]
    translations: dict[str, dict[int, str]] = field(default_factory=dict)
    """Names by language (`fr`, `en`) and code."""

    def label(self, code: int) -> str:
        """Return the name of `code`, or the code itself if it has no name (a code added by an ingest)."""
        return self.labels.get(code, str(code))

    def translated(self, language: str | None) -> Categories:
        """Return the categories with their names in a language; without names in it, as they are."""
        names = self.translations.get(language) if language else None
        return self if names is None else replace(self, labels=self.labels | names)

    def labelled(self, more_codes: Iterable[int] = ()) -> list[tuple[int, str]]:
        """Return the known codes and `more_codes` in ascending order, each with its label."""
        return [(code, self.label(code)) for code in sorted({*self.codes, *more_codes})]


def load_categories(path: Path | None = None) -> Categories:
    """Return the categories in `path`, or the 27 built-in ones if it is None.

    The file is a JSON object {code: label} or {code: {language: label}}; the first language is the default. Raises
    CategoriesNotReadable.
    """
    try:
        source = path or resources.files(__package__) / "categories.json"
        named = json.loads(source.read_text(encoding="utf-8"))
        names = {int(code): _by_language(label) for code, label in sorted(named.items(), key=lambda one: int(one[0]))}
        labels = {code: next(iter(by_language.values()), "") for code, by_language in names.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CategoriesNotReadable(f"CATEGORIES_PATH must hold a JSON object {{code: label}}: {error}") from error
    if len(labels) < 2 or min(labels) < 0 or not all(labels.values()):
        raise CategoriesNotReadable("CATEGORIES_PATH must hold at least two codes, each a number with a label.")
    languages = {language for by_language in names.values() for language in by_language if language}
    translations = {
        language: {code: by_language[language] for code, by_language in names.items() if by_language.get(language)}
        for language in sorted(languages)
    }
    return Categories(tuple(labels), labels, translations)


def _by_language(label: Any) -> dict[str, str]:
    """Return the names of a category by language; a plain text is a name in no particular language."""
    by_language = label if isinstance(label, dict) else {"": label}
    return {str(language): str(name).strip() for language, name in by_language.items()}
