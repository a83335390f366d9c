"""The images' Dockerfiles against what they must agree with: each other, the process list, the workspace."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from rayonnage_shared.core.processes import PROCESSES, process

ROOT = Path(__file__).parents[3]
SERVICES = ["auth", "gateway", "ingest", "predict", "train"]
FILES = {
    **dict.fromkeys(SERVICES, ROOT / "services" / "Dockerfile"),
    "mlflow": ROOT / "deployments" / "mlflow" / "Dockerfile",
}


def instructions(name: str) -> list[str]:
    """Return the instructions that make an image, each on one line, without the stages that it does not use."""
    lines = [line for line in FILES[name].read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n", "", "\n".join(lines)).replace("$SERVICE", name)
    stages: list[list[str]] = [[]]
    for step in (re.sub(r"\s+", " ", line) for line in text.splitlines() if line):
        if step.startswith("FROM "):
            stages.append([])
        stages[-1].append(step)
    needed: set[str] = set()
    used: list[list[str]] = []
    for stage in reversed(stages[1:]):
        base, _as, stage_name = stage[0].removeprefix("FROM ").partition(" AS ")
        if not used or stage_name in needed:
            needed |= {base, *re.findall(r"--from=(\S+)", " ".join(stage))}
            used.insert(0, stage)
    return [step for stage in used for step in stage if not step.startswith("ARG SERVICE")]


def values(name: str, instruction: str) -> list[str]:
    """Return what follows each instruction of this kind."""
    return [one.removeprefix(f"{instruction} ") for one in instructions(name) if one.startswith(f"{instruction} ")]


def members() -> list[str]:
    """Return the folders of the workspace's members."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["workspace"]
    return sorted(
        str(path.parent.relative_to(ROOT))
        for glob in workspace["members"]
        for path in ROOT.glob(f"{glob}/pyproject.toml")
    )


def test_every_service_has_one() -> None:
    assert {one.package.removeprefix("rayonnage_") for one in PROCESSES} == set(SERVICES)
    assert all(path.is_file() for path in FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_all_begin_with_the_same_steps_so_that_a_builder_does_them_once(name: str) -> None:
    def first_steps(of: str) -> list[str]:
        steps = instructions(of)
        return steps[: next(number for number, step in enumerate(steps) if "uv sync" in step)]

    assert first_steps(name) == first_steps("auth")


@pytest.mark.parametrize("name", FILES)
def test_what_is_installed_comes_from_the_lock_by_a_pinned_installer(name: str) -> None:
    (sync,) = (step for step in values(name, "RUN") if "uv sync" in step)
    assert "--frozen" in sync and "--no-default-groups" in sync
    assert any(re.search(r"uv==\d+\.\d+\.\d+$", step) for step in values(name, "RUN"))


@pytest.mark.parametrize("name", FILES)
def test_the_lock_finds_every_member_of_the_workspace(name: str) -> None:
    copied = {one.partition(" ")[0] for one in values(name, "COPY")}
    assert {f"{member}/pyproject.toml" for member in members()} <= copied


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_let_into_the_context(name: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for one in values(name, "COPY"):
        if not one.startswith("--from"):
            *sources, _target = [part for part in one.split() if not part.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert any(entry == source or entry.startswith(f"{source}/") for entry in allowed), source


@pytest.mark.parametrize("name", FILES)
def test_it_runs_as_a_user_without_rights(name: str) -> None:
    assert values(name, "USER") == ["10001:10001"]


@pytest.mark.parametrize("name", FILES)
def test_an_engine_without_buildkit_can_build_it(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert not re.search(r"^# *syntax|<<|--mount|--link|--chmod", text, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_it_runs_its_process_where_others_can_reach_it(name: str) -> None:
    one = process(name)
    assert json.loads(values(name, "CMD")[0]) == ["python", "-m", one.module]
    settings = dict(pair.split("=", 1) for line in values(name, "ENV") for pair in line.split())
    assert one.port is not None
    assert settings[one.port.host_setting] == "0.0.0.0"
    exposed = {int(port) for port in values(name, "EXPOSE")[0].split()}
    assert exposed == {port.default for other in PROCESSES if other.package == one.package for port in other.ports()}


@pytest.mark.parametrize("name", SERVICES)
def test_healthy_means_ready(name: str) -> None:
    (check,) = values(name, "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command == ["python", "-m", "rayonnage_shared.core.healthcheck", name]


def test_nothing_of_a_checkout_gets_into_an_image_unless_it_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert lines[-2:] == ["**/__pycache__", "**/.*"]  # last, so that they hold within what is named
    assert not any("*" in line for line in lines if line.startswith("!"))
