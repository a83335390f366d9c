"""The documents against the repository: their links lead somewhere, and the commands and files that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
MAKE = re.compile(r"\bmake ((?:[a-z][a-z-]+(?= |`|$)[ ]?)+)", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`|```bash\n(.*?)```", re.DOTALL)
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w.-]+\.(?:md|toml|yml))`")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_links_lead_to_files(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(
    "document", [one for one in DOCUMENTS if one.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_make_targets_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    code = "\n".join("".join(found) for found in CODE.findall(document.read_text(encoding="utf-8")))
    named = {name for words in MAKE.findall(code) for name in words.split()}
    assert named <= targets


def test_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [path for path in PATH.findall(text) if not re.search(r"SERVICE|DOMAIN|NAME", path)]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []
