from __future__ import annotations

import re
from pathlib import Path

import pytest

from rayonnage_shared.core.optional_parts import DVC, MLFLOW, PLOTS, S3, OptionalPart, PartMissing

ROOT = Path(__file__).parents[4]


def test_a_missing_part_names_the_make_word_that_installs_it() -> None:
    with pytest.raises(PartMissing, match=r"^Knitting is not installed; `make knitting` installs it\.$"):
        OptionalPart("Knitting", "rayonnage_knitting", "knitting").require()


def test_an_installed_part_is_usable() -> None:
    OptionalPart("Parsing", "json", "json").require()


@pytest.mark.parametrize("part", [DVC, MLFLOW, PLOTS, S3])
def test_the_make_word_exists_and_installs_an_extra(part: OptionalPart) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{part.make_word}:.*\n\t@\$\(BOOTSTRAP\) --extra {part.make_word}$", makefile, re.MULTILINE)
