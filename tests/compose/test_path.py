"""The tests of the whole path, from nothing to predictions, through nginx with TLS."""

from __future__ import annotations

import pytest

from tests.e2e import test_path
from tests.e2e.deployment import Deployment
from tests.e2e.test_path import *  # noqa: F403 - the same tests, with the fixtures of this folder

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def platform(shop: test_path.Shop) -> Deployment:
    """The stack that the first tests have filled."""
    return shop.platform
