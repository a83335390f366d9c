"""Fixtures of the tests of the containers: one stack for all of them, built from nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import CHECKOUT, Stack, new_stack

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
_LEFT_OUT: list[str] = []


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the sample catalogue."""
    return SAMPLE


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose images are built; nothing of it is left afterwards."""
    stack = new_stack(tmp_path_factory.mktemp("checkout"))
    stack.down("--volumes", "--remove-orphans")
    try:
        stack.find_images()
        _LEFT_OUT.extend(stack.left_out)
        stack.build()
        yield stack
    finally:
        stack.down("--volumes", "--remove-orphans")


@pytest.fixture(scope="session")
def platform(built: Stack) -> Stack:
    """The stack after its first start, which has found an empty DVC remote and trained on the sample."""
    built.up()
    return built


@pytest.fixture(scope="module")
def empty_platform(built: Stack) -> Stack:
    """The stack without products and models."""
    built.down("--volumes")
    built.rewrite_env(DEMO="0")
    built.up(need_not_be_ready={"predict"})
    return built


@pytest.fixture(scope="session")
def scan(built: Stack) -> Iterator[subprocess.Popen[str]]:
    """The search through the images for what must not be there: it takes minutes, beside a test that only waits."""
    command = [sys.executable, "deployments/images/scan.py", *built.own_images()]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        yield running
        running.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last the tests of the images, which `scan` has searched meanwhile."""
    items.sort(key=lambda item: item.path.name == "test_images.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which services did not run."""
    if _LEFT_OUT:
        terminalreporter.write_line(
            f"Left out, since their images are not to be had on this machine: {', '.join(_LEFT_OUT)}."
        )
