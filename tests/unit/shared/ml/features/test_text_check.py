"""The packaged self-check of the text preprocessing."""

from __future__ import annotations

import pytest

from rayonnage_shared.ml.features import text_check


def test_every_case_is_listed_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert text_check.main() == 0
    out, err = capsys.readouterr()
    assert out.count("ok ") == len(text_check.CASES) > 10
    assert err == ""


def test_a_wrong_result_is_named_and_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(text_check, "clean", lambda raw: raw or "")
    assert text_check.main() == 1
    out, err = capsys.readouterr()
    assert "ok      'R&D'" in out
    assert """FAILED  'nan' -> 'nan', expected ''""" in err


def test_a_result_that_a_second_cleaning_changes_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_check, "CASES", (text_check.Case("&amp;lt;", "&lt;"),))
    monkeypatch.setattr(text_check, "clean", {"&amp;lt;": "&lt;", "&lt;": "<"}.__getitem__)
    assert text_check.main() == 1
