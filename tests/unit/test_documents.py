"""The documents against the repository: their links lead somewhere, and the commands and files that they name exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from starlette.routing import compile_path

from rayonnage_gateway.routes import PUBLIC_ROUTES
from rayonnage_shared.cli.main import create_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
MAKE = re.compile(r"\bmake ((?:[a-z][a-z-]+(?= |`|$)[ ]?)+)", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`|```bash\n(.*?)```", re.DOTALL)
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w.-]+\.(?:md|toml|yml))`")

CLI: Any = typer.main.get_command(create_app())
ROUTE = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/\w[\w/{}.-]*)`")
GROUPS = "|".join(sorted(name for name, one in CLI.commands.items() if hasattr(one, "commands")))
COMMAND = re.compile(rf"\brayonnage ((?:(?:{GROUPS}) )?[a-z][a-z-]+)((?: [^`|\n]*)?)")
SOURCE = re.compile(r"`([\w/]+\.py)`")

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


@every_document
def test_routes_exist(document: Path) -> None:
    known = [(route.method, compile_path(route.path)[0]) for route in PUBLIC_ROUTES]
    named = ROUTE.findall(document.read_text(encoding="utf-8"))
    own = {"/status", "/docs", "/metrics"}  # of the gateway and the services, not in the table
    assert [
        f"{method} {path}"
        for method, path in named
        if path not in own and not any(method == one and pattern.match(path) for one, pattern in known)
    ] == []


@every_document
def test_commands_and_their_options_exist(document: Path) -> None:
    code = "\n".join("".join(found) for found in CODE.findall(document.read_text(encoding="utf-8")))
    unknown = []
    for name, rest in COMMAND.findall(code):
        command: Any = CLI
        for word in name.split():
            command = command.commands.get(word) if command is not None else None
        options = (
            {option for one in command.params for option in (*one.opts, *one.secondary_opts)} if command else set()
        )
        unknown += [f"rayonnage {name}"] if command is None else []
        unknown += [
            f"rayonnage {name} {one}" for one in re.findall(r"--[a-z-]+", rest.split("&&")[0]) if one not in options
        ]
    assert unknown == []


def test_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [path for path in PATH.findall(text) if not re.search(r"SERVICE|DOMAIN|NAME", path)]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_layers_are_documented_as_import_linter_checks_them() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = {one["containers"][0]: one["layers"] for one in contracts if one["type"] == "layers"}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| (\d+) \| `(\w+)/` \|", text, re.MULTILINE)
    of_ml = re.search(r"^The folders of `ml/` are layers too, from the top: (.*?)\n\n", text, re.MULTILINE | re.DOTALL)

    folders = layers["rayonnage_shared"]
    expected = [(len(folders) - i, set(line.split(" | "))) for i, line in enumerate(folders)]
    assert [(number, {name for n, name in rows if int(n) == number}) for number, _ in expected] == expected
    assert [int(number) for number, _ in rows] == sorted((int(number) for number, _ in rows), reverse=True)
    assert of_ml is not None
    assert re.findall(r"(?:^|; )`(\w+)`", of_ml.group(1).replace("\n", " ")) == layers["rayonnage_shared.ml"]


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(SOURCE.findall(text))
    sources = [str(path) for folder in ("shared", "services", "deployments") for path in (ROOT / folder).rglob("*.py")]
    assert len(named) > 40
    assert [path for path in sorted(named) if not any(source.endswith(f"/{path}") for source in sources)] == []
