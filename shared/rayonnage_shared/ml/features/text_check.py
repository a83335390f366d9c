"""Check the text preprocessing of this installation: `python -m rayonnage_shared.ml.features.text_check`."""

from __future__ import annotations

import sys
from typing import NamedTuple

from rayonnage_shared.ml.features.text import clean


class Case(NamedTuple):
    """A text as catalogues contain it, and what cleaning makes of it."""

    raw: str | None
    cleaned: str


CASES = (
    Case("Piscine tubulaire Ø 3 m", "Piscine tubulaire Ø 3 m"),
    Case("LEGO Star Wars", "LEGO Star Wars"),
    Case("<p>Robot de <b>piscine</b></p><br />Garantie", "Robot de piscine Garantie"),
    Case("L&#39;&eacute;t&eacute;", "L'été"),
    Case("L&amp;#39;&amp;eacute;t&amp;eacute;", "L'été"),
    Case("&lt;p&gt;Coussin&lt;/p&gt;", "Coussin"),
    Case("Ã©tÃ© Ã\xa0 la plage", "été à la plage"),
    Case("lâ€™eau", "l'eau"),
    Case("table\x00 basse\u200b\r\n\tchêne", "table basse chêne"),
    Case("<script>alert(1)</script>Lampe<style>p{}</style>", "Lampe"),
    Case("e\u0301te\u0301", "été"),
    Case("taille < 40 & > 30", "taille < 40 & > 30"),
    Case("R&D", "R&D"),
    Case("nan", ""),
    Case("<br>", ""),
    Case(None, ""),
)


def main() -> int:
    """Clean every case twice, print a line for each, and return 1 if one is not as expected."""
    failed = 0
    for case in CASES:
        once = clean(case.raw)
        if once == case.cleaned == clean(once):
            print(f"ok      {case.raw!a} -> {once!r}")
        else:
            failed += 1
            print(f"FAILED  {case.raw!a} -> {once!r}, expected {case.cleaned!r}", file=sys.stderr)
    print(f"{len(CASES) - failed} of {len(CASES)} texts were cleaned as expected.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
