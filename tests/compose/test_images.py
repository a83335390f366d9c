"""What is in the images: no secrets, no compilers, no root, and no more than their limits."""

from __future__ import annotations

import sys

import pytest

from tests.compose.stack import CHECKOUT, Stack, run

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def images(built: Stack) -> list[str]:
    return sorted({one["image"] for one in built.services().values() if one["image"].startswith("rayonnage/")})


def test_no_image_holds_what_must_not_be_there(built: Stack) -> None:
    run([sys.executable, "deployments/images/scan.py", *images(built)], cwd=CHECKOUT, within_s=600)


def test_no_image_is_heavier_than_it_may_be(built: Stack) -> None:
    run([sys.executable, "deployments/images/sizes.py", *images(built)], cwd=CHECKOUT, within_s=60)


def test_no_image_runs_as_root(built: Stack) -> None:
    for image in images(built):
        assert built.docker("image", "inspect", "--format", "{{.Config.User}}", image).strip() == "10001:10001"
