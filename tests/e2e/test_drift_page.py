"""A drift report's page in a real browser, with the headers that it is sent with: it draws, and can do nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.drift.evidently.report import evidently_report
from rayonnage_shared.drift.observations import ScoredProduct, observe
from rayonnage_shared.drift.page import page
from rayonnage_train.drift_routes import PAGE_HEADERS
from tests.e2e.platform import Platform
from tests.http_server import serving
from tests.system.chromium import chromium
from tests.unit.shared.drift.reports import report, write_report
from tests.waiting import eventually

pytestmark = pytest.mark.system

WORDS = ("piscine", "chaise", "livre", "jeu", "lampe", "tapis")
DRAWN_WITHIN_S = 60


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where a report's page is served as train does it, whatever the path."""
    products = observe(
        ScoredProduct(f"{WORDS[i % 6]} {WORDS[i % 5]}", None, i % 2 == 0, i, 0.5 + i / 200, 0.5 + i / 150, None)
        for i in range(60)
    )
    evidently = evidently_report(products, products.take(np.arange(40)), tmp_path)
    assert evidently is not None
    body = page(report("20261121T120000000000Z-0a1b"), evidently.html).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (PAGE_HEADERS | {"Content-Type": "text/html; charset=utf-8"}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Page) as url:
        yield url


def test_a_logged_in_person_opens_a_report_by_its_link(platform: Platform, tmp_path: Path) -> None:
    report_id = "20200101T000000000000Z-0001"
    write_report(platform.home / "data", report_id)
    with platform.client(platform.admin_token()) as client:
        url = client.post(f"/drift/{report_id}/link").json()["url"]
    folder = tmp_path / "chromium"
    folder.mkdir()
    with chromium(folder, width=1200, height=1500) as browser:
        browser.open(f"{platform.base_url}{url}")
        assert "Rayonnage: drift" in browser.run("return document.body.innerText")
        assert browser.run("return window.origin") == "null"


def test_the_page_draws_and_can_neither_ask_the_platform_nor_remember(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "chromium"
    folder.mkdir()
    with chromium(folder, width=1200, height=1500) as browser:
        browser.open(f"{address}/drift/20261121T120000000000Z-0a1b")
        assert "Rayonnage: drift" in browser.run("return document.body.innerText")
        assert eventually(
            lambda: browser.run("return document.querySelectorAll('tbody button').length"), DRAWN_WITHIN_S
        )
        browser.run("document.querySelector('tbody button').click()")
        plotted = "return document.querySelectorAll('.js-plotly-plot svg').length"
        assert eventually(lambda: browser.run(plotted), DRAWN_WITHIN_S), "a column that is opened shows its picture"
        assert browser.run("return window.origin") == "null"
        assert browser.run("try { return String(localStorage) } catch (error) { return error.name }") == "SecurityError"
        browser.run("fetch('/users/me').then(() => window.asked = 'answered', () => window.asked = 'refused')")
        assert eventually(lambda: browser.run("return window.asked"), DRAWN_WITHIN_S)
        assert browser.run("return window.asked") == "refused"
