"""The test of a promotion under load, through nginx with TLS."""

from __future__ import annotations

import pytest

from tests.e2e.test_promotion_under_load import *  # noqa: F403 - the same test, with the fixtures of this folder

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
