"""Rates and quantiles out of two readings of a page of metrics."""

from __future__ import annotations

import pytest

from rayonnage_shared.ops.prometheus_text import Readings

PAGE = """\
# TYPE http_requests counter
http_requests_total{{status="200",handler="/predict"}} {good}
http_requests_total{{status="503",handler="/predict"}} {bad}
# TYPE seconds histogram
seconds_bucket{{le="0.1",handler="/predict"}} {fast}
seconds_bucket{{le="1.0",handler="/predict"}} {all}
seconds_bucket{{le="+Inf",handler="/predict"}} {all}
seconds_count{{handler="/predict"}} {all}
seconds_sum{{handler="/predict"}} 1.0
"""


def page(*, good: int = 0, bad: int = 0, fast: int = 0, slow: int = 0) -> Readings:
    return Readings.of(PAGE.format(good=good, bad=bad, fast=fast, all=fast + slow))


def test_what_was_counted_between_two_readings_is_their_difference() -> None:
    grown = page(good=30, bad=5).since(page(good=10, bad=5))

    assert grown.by("http_requests_total", "status") == {"200": 20, "503": 0}
    assert grown.total("http_requests_total", handler="/predict") == 20


def test_a_process_that_was_started_anew_counts_from_nothing() -> None:
    assert page(good=3).since(page(good=1000)).total("http_requests_total", status="200") == 3


def test_replicas_are_counted_together() -> None:
    both = Readings.together([page(good=1), page(good=2)])
    assert both.total("http_requests_total", status="200") == 3


def test_a_quantile_lies_where_promql_puts_it() -> None:
    nine_of_ten_fast = page(fast=90, slow=10)

    assert nine_of_ten_fast.quantile(0.45, "seconds") == pytest.approx(0.05)
    assert nine_of_ten_fast.quantile(0.95, "seconds", handler="/predict") == pytest.approx(0.55)


def test_a_quantile_beyond_all_bounds_is_the_last_bound() -> None:
    readings = Readings.of('seconds_bucket{le="0.1"} 0\nseconds_bucket{le="+Inf"} 5\n')
    assert readings.quantile(0.99, "seconds") == 0.1


def test_without_observations_there_is_no_quantile_and_no_total() -> None:
    assert page().quantile(0.5, "seconds") is None
    assert Readings().quantile(0.5, "seconds") is None
    assert Readings().total("http_requests_total") is None


def test_a_page_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError):
        Readings.of("<!doctype html><html>")
