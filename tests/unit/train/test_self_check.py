"""The self-check runs in a process with a time limit, one at a time, without the service's secrets."""

from __future__ import annotations

import sys

import pytest

from rayonnage_shared.core.errors import Overloaded
from rayonnage_train.self_check import EXIT_TIMEOUT, MAX_OUTPUT_CHARACTERS, SelfCheck, SelfCheckResult


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", code)


def test_a_check_that_fails_is_a_result() -> None:
    found = SelfCheck(60, python("import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)")).run()
    assert found == SelfCheckResult(exit_code=3, stdout="a\n", stderr="b\n", success=False)


def test_a_check_that_does_not_end_is_stopped_and_says_so() -> None:
    check = SelfCheck(0.5, python("import time; time.sleep(600)"))
    for _ in range(2):  # the lock is free again
        found = check.run()
        assert (found.exit_code, found.success) == (EXIT_TIMEOUT, False)
        assert "stopped after 0.5 s" in found.stderr


def test_the_environment_of_the_service_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "not-for-children")
    assert "not-for-children" not in SelfCheck(60, python("import os; print(dict(os.environ))")).run().stdout


def test_long_output_is_truncated() -> None:
    found = SelfCheck(60, python(f"print('x' * {10 * MAX_OUTPUT_CHARACTERS})")).run()
    assert len(found.stdout) == MAX_OUTPUT_CHARACTERS


def test_the_lock_is_released_after_a_failure_to_start() -> None:
    check = SelfCheck(60, ("/nonexistent/python",))
    for _ in range(2):
        with pytest.raises(OSError, match="nonexistent"):
            check.run()
    with check._running, pytest.raises(Overloaded):
        check.run()
