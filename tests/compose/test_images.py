"""What is in the images: no secrets, no compilers, no root, and no more than their limits."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.compose.stack import CHECKOUT, Stack, run

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def test_no_image_is_heavier_than_it_may_be(built: Stack) -> None:
    run([sys.executable, "deployments/images/sizes.py", *built.own_images()], cwd=CHECKOUT, within_s=60)


def test_no_image_runs_as_root(built: Stack) -> None:
    for image in built.own_images():
        assert built.docker("image", "inspect", "--format", "{{.Config.User}}", image).strip() == "10001:10001"


def test_no_image_holds_what_must_not_be_there(scan: subprocess.Popen[str]) -> None:
    output, _none = scan.communicate(timeout=600)
    assert scan.returncode == 0, output
