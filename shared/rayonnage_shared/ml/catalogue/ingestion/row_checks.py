"""Validation of labelled rows by a pandera schema; each rule has a message for the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct
from rayonnage_shared.ml.catalogue.schemas import Reject

MAX_TEXT_CHARACTERS = 20_000
MAX_ID_CHARACTERS = 64
_MAX_CODE_DIGITS = 9

_NO_CONTENT = "it has neither text nor a usable photo"
_TOO_LONG = f"longer than {MAX_TEXT_CHARACTERS:,} characters"
_NUL = "contains NUL characters"
_BAD_CODE = "prdtypecode is missing or not a whole number"
_NEW_CODE = "prdtypecode is not a known code; set allow_new_codes to add it"
_BAD_ID = f"is longer than {MAX_ID_CHARACTERS} characters or not printable"


def check_rows(
    products: Sequence[RawProduct], has_content: Sequence[bool], *, known_codes: Collection[int] | None
) -> list[Reject]:
    """Return the violations, at most one per row, in the order of lines.

    `has_content` marks rows with text after cleaning or a valid photo. With `known_codes` None every code is accepted.
    """
    import pandas as pd
    from pandera.errors import SchemaErrors

    if not products:  # without values pandas cannot infer a text column
        return []
    frame = pd.DataFrame(
        {
            "designation": [product.designation for product in products],
            "description": [product.description for product in products],
            "productid": [product.product_id for product in products],
            "imageid": [product.image_id for product in products],
            "prdtypecode": [product.code for product in products],
            "content": list(has_content),
        }
    )
    try:
        _schema(known_codes).validate(frame, lazy=True)
    except SchemaErrors as errors:
        reasons: dict[int, str] = {}
        cases = errors.failure_cases
        for row, column, check in zip(cases["index"], cases["column"], cases["check"], strict=True):
            subject = f"{column} " if check in (_TOO_LONG, _NUL, _BAD_ID) else ""
            verb = "is " if check == _TOO_LONG else ""
            reasons.setdefault(int(row), f"{subject}{verb}{check}")
        return [Reject(line=products[row].line, reason=reason) for row, reason in sorted(reasons.items())]
    return []


def _schema(known_codes: Collection[int] | None) -> Any:
    import pandera.pandas as pa

    def text() -> Any:
        return pa.Column(
            str,
            [
                pa.Check(lambda values: values.str.len() <= MAX_TEXT_CHARACTERS, error=_TOO_LONG),
                pa.Check(lambda values: ~values.str.contains("\0", regex=False), error=_NUL),
            ],
        )

    def identifier() -> Any:
        return pa.Column(
            str,
            pa.Check(
                lambda values: (values.str.len() <= MAX_ID_CHARACTERS) & ((values == "") | values.map(str.isprintable)),
                error=_BAD_ID,
            ),
        )

    code_checks = [pa.Check(lambda values: values.str.fullmatch(rf"\d{{1,{_MAX_CODE_DIGITS}}}"), error=_BAD_CODE)]
    if known_codes is not None:
        known = {str(code) for code in known_codes}
        code_checks.append(pa.Check(lambda values: values.isin(known), error=_NEW_CODE))
    return pa.DataFrameSchema(
        {
            "prdtypecode": pa.Column(str, code_checks),
            "designation": text(),
            "description": text(),
            "productid": identifier(),
            "imageid": identifier(),
            "content": pa.Column(bool, pa.Check(lambda values: values, error=_NO_CONTENT)),
        }
    )
