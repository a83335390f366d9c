"""The language of a response, from the request's `Accept-Language` header (RFC 9110, section 12.5.4)."""

from __future__ import annotations

from collections.abc import Collection


def preferred_language(accept_language: str, offered: Collection[str]) -> str | None:
    """Return the offered language that the header wants most, or None if it wants none of them.

    Languages are primary tags, such as `en`: a header with `en-GB` wants `en`.
    """
    best, best_weight = None, 0.0
    for part in accept_language.lower().split(","):
        tag, *parameters = (one.strip() for one in part.split(";"))
        language = tag.partition("-")[0]
        try:
            weight = next((float(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        except ValueError:
            continue
        if language in offered and weight > best_weight:
            best, best_weight = language, weight
    return best
