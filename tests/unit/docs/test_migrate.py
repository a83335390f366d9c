"""`docs/migrate.md` against the product: what it names here exists, and nothing of the older systems is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayonnage_gateway.routes import PUBLIC_ROUTES
from rayonnage_shared.cli.main import SUBJECTS, create_app
from rayonnage_shared.ops.older_settings import OLDER_SETTINGS
from rayonnage_shared.ops.settings_catalogue import all_settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
OWN_ROUTES = {"GET /", "GET /status", "GET /docs"}
ROUTE = re.compile(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`")
CODE = re.compile(r"`([^`\n]+)`")

OLDER_ROUTES = (
    "POST /predict/text/manual",
    "POST /predict/image/manual",
    "POST /train/text",
    "POST /train/image",
    "GET /test/preprocess/text/manual",
    "GET /metrics",
    "GET /",
    "GET /status",
    "POST /predict",
    "/predict_code",
    "POST /token",
    "POST /ingest",
    "POST /train",
    "GET /info",
    "GET /docs",
)
OLDER_WORDS = {
    "B": "train predict monitor api dashboard full-run full-run-api no-train-run up down lint format test",
    "C": "init-airflow start stop",
    "D": "create_environment requirements docker-up docker-down docker-down-v docker-ps docker-logs docker-cp-traincsv "
    "swagger",
}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the columns system, there and here of each row; system is "" in the table of models."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0] not in {"system", "there"}:
            *system, there, here = cells
            yield (system[0] if system else "", there, here)


HERE = "\n".join(here for _, _, here in rows())
THERE = "\n".join(there for _, there, _ in rows())


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z_-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def commands() -> set[str]:
    """Return the commands of `rayonnage`, groups with their sub-commands."""
    group = typer.main.get_command(create_app(SUBJECTS))
    found = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found |= {name, *(f"{name} {sub}" for sub in getattr(command, "commands", {}))}
    return found


def test_every_route_named_as_ours_exists() -> None:
    ours = {f"{route.method} {route.path}" for route in PUBLIC_ROUTES} | OWN_ROUTES
    named = set(ROUTE.findall(HERE))
    assert len(named) > 15
    assert named <= ours


def test_every_make_target_named_exists() -> None:
    named = {code.split()[1] for code in CODE.findall(HERE) if code.startswith("make ")}
    assert len(named) > 20
    assert named <= make_targets()


def test_every_command_named_exists() -> None:
    known = commands()
    named = [code.removeprefix("rayonnage ") for code in CODE.findall(HERE) if code.startswith("rayonnage ")]
    assert len(named) > 5
    for words in named:
        first, *rest = words.split()
        assert first in known, words
        if rest and not rest[0].startswith("-") and any(one.startswith(f"{first} ") for one in known):
            assert f"{first} {rest[0]}" in known, words


def test_every_option_of_the_train_commands_exists() -> None:
    help_text = CliRunner(env={"COLUMNS": "200"}).invoke(create_app(("models",)), ["train", "--help"]).output
    named = {option for code in CODE.findall(HERE) if code.startswith("rayonnage train ") for option in code.split()}
    assert {"--text", "--image", "--fusion"} == {option for option in named if option.startswith("--")}
    assert all(option in help_text for option in ("--text", "--image", "--fusion"))


def test_every_setting_and_path_named_as_ours_exists() -> None:
    settings = {setting.name for setting in all_settings()} | {"ARGS", "PRODUCTS", "TRAIN_CSV"}
    named = {code for code in CODE.findall(HERE) if re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", code)}
    assert named <= settings
    folders = [code for code in CODE.findall(HERE) if re.match(r"(services|shared|deployments)/", code)]
    assert len(folders) > 8
    assert [folder for folder in folders if not (ROOT / folder).exists()] == []


@pytest.mark.parametrize("route", OLDER_ROUTES)
def test_every_route_of_the_older_systems_is_there(route: str) -> None:
    assert f"`{route}`" in THERE


@pytest.mark.parametrize(("system", "words"), OLDER_WORDS.items())
def test_every_make_target_of_the_older_systems_is_there(system: str, words: str) -> None:
    theirs = {there.strip("`") for of, there, _ in rows() if of == system}
    assert set(words.split()) <= theirs


def test_every_setting_of_the_older_systems_is_there() -> None:
    honoured = {"TEST_USER", "TEST_USER_PASSWORD", "DAGSHUB_USERNAME", "DAGSHUB_TOKEN"}
    named = set(CODE.findall(THERE))
    assert OLDER_SETTINGS.keys() | honoured <= named
    assert honoured <= {setting.name for setting in all_settings()}
