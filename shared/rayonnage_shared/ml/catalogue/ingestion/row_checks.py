"""Validation of labelled rows; each rule has a message for the report."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct
from rayonnage_shared.ml.catalogue.schemas import Reject

MAX_TEXT_CHARACTERS = 20_000
MAX_ID_CHARACTERS = 64
_CODE = re.compile(r"[0-9]{1,9}")


def check_rows(
    products: Sequence[RawProduct], has_content: Sequence[bool], *, known_codes: Collection[int] | None
) -> list[Reject]:
    """Return the violations, at most one per row, in the order of lines.

    `has_content` marks rows with text after cleaning or a valid photo. With `known_codes` None every code is accepted.
    """
    known = None if known_codes is None else {str(code) for code in known_codes}
    checked = (
        (product, _violation(product, has_content=content, known_codes=known))
        for product, content in zip(products, has_content, strict=True)
    )
    return [Reject(line=product.line, reason=reason) for product, reason in checked if reason is not None]


def _violation(product: RawProduct, *, has_content: bool, known_codes: Collection[str] | None) -> str | None:
    """Return the first rule that a row breaks."""
    if not _CODE.fullmatch(product.code):
        return "prdtypecode is missing or not a whole number"
    if known_codes is not None and product.code not in known_codes:
        return "prdtypecode is not a known code; set allow_new_codes to add it"
    for column, text in (("designation", product.designation), ("description", product.description)):
        if len(text) > MAX_TEXT_CHARACTERS:
            return f"{column} is longer than {MAX_TEXT_CHARACTERS:,} characters"
        if "\0" in text:
            return f"{column} contains NUL characters"
    for column, identifier in (("productid", product.product_id), ("imageid", product.image_id)):
        if len(identifier) > MAX_ID_CHARACTERS or not identifier.isprintable():
            return f"{column} is longer than {MAX_ID_CHARACTERS} characters or not printable"
    return None if has_content else "it has neither text nor a usable photo"
