"""The language that a request asks for."""

from __future__ import annotations

import pytest

from rayonnage_shared.http.languages import preferred_language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", None),
        ("en", "en"),
        ("EN-gb", "en"),
        ("fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("fr;q=0.4, en;q=0.8", "en"),
        ("de, en;q=0.1", "en"),
        ("de", None),
        ("*", None),
        ("en;q=0", None),
        ("en;q=high, fr", "fr"),
        ("en;q=nan", None),
        (",;,", None),
    ],
)
def test_the_most_wanted_language_that_is_offered_is_chosen(header: str, language: str | None) -> None:
    assert preferred_language(header, {"fr", "en"}) == language
