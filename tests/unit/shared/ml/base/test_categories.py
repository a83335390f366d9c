"""Codes and their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.ml.base.categories import Categories, CategoriesNotReadable, load_categories


def test_the_built_in_categories_are_27_in_rising_order() -> None:
    categories = load_categories()
    assert len(categories.codes) == 27
    assert list(categories.codes) == sorted(categories.labels)
    assert categories.label(2583).startswith("Piscine")


def test_a_file_replaces_the_names_and_an_unknown_code_is_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"40": "Jeux", "10": "Livres"}', encoding="utf-8")
    categories = load_categories(path)
    assert (categories.codes, categories.label(40), categories.label(99)) == ((10, 40), "Jeux", "99")


def test_every_built_in_category_has_a_french_and_an_english_name_and_french_is_the_default() -> None:
    categories = load_categories()
    assert categories.translated("fr").labels == categories.labels
    english = categories.translated("en")
    assert english.codes == categories.codes
    assert english.label(2583) == "Swimming pool > Maintenance and equipment"
    assert all(english.labels[code] != label for code, label in categories.labels.items())
    assert categories.translated("de") is categories


def test_a_name_that_is_missing_in_a_language_is_the_default_name(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"40": {"fr": "Jeux", "en": "Games"}, "10": "Livres"}', encoding="utf-8")
    english = load_categories(path).translated("en")
    assert english.labels == {10: "Livres", 40: "Games"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": "b"}', '{"10": "Livres"}', '{"10": "", "40": "x"}', '{"10": {}, "40": "x"}']
)
def test_a_file_that_names_no_categories_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CategoriesNotReadable):
        load_categories(path)


def test_codes_are_listed_with_their_labels_in_rising_order_and_once() -> None:
    categories = Categories((10, 40), {10: "Livres", 40: "Jeux"})
    assert categories.labelled() == [(10, "Livres"), (40, "Jeux")]
    assert categories.labelled([40, 20]) == [(10, "Livres"), (20, "20"), (40, "Jeux")]
