"""Fixtures of the tests of the containers: one stack for all of them, built from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack, new_stack

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which services did not run."""
    if _LEFT_OUT:
        terminalreporter.write_line(
            f"Left out, since their images are not to be had on this machine: {', '.join(_LEFT_OUT)}."
        )
