"""Every query of every dashboard returns data from a real Prometheus that watches a platform under load.

And the pages of what watches it, in a real browser; `make docs-pictures` keeps pictures of them.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from rich.console import Console

from deployments.grafana.dashboards.panels import PROMOTIONS
from rayonnage_shared.cli.dashboard_panels import drawn
from rayonnage_shared.ops.platform_state import DashboardSettings, Watcher
from tests.e2e.platform import running_platform
from tests.monitoring.dashboard_queries import PanelQuery, panel_queries, substituted, variable_queries
from tests.monitoring.load import RATE_LIMIT, make_users, refused_logins, steady_load, work
from tests.monitoring.stack import MonitoringStack, monitoring_stack
from tests.system.chromium import Browser, chromium

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(900)]

DATA_WITHIN_S = 60
QUERIES = panel_queries()
VARIABLES = variable_queries()
COLOURS = 96  # of a picture: a page of numbers needs no more, and is a third of the size
MOST_BYTES = 200_000
TRAFFIC_S = 5
COLUMNS = 150
WITHOUT_FOLDERS = (  # the rules lie in the folder of this test, which is not to be in a picture
    "for (const cell of document.querySelectorAll('td')) if (!cell.children.length) "
    "cell.textContent = cell.textContent.replace(/\\S*[/]rules[/]/, 'rules/')"
)


@pytest.fixture(scope="module")
def busy(trained_volume: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoringStack]:
    """A watched platform in which everything has happened that a dashboard shows, and which goes on predicting."""
    folder = tmp_path_factory.mktemp("dashboards")
    settings = {"PREDICT_RATE_LIMIT": f"{RATE_LIMIT}/minute", "DVC_REMOTE_URL": str(folder / "remote")}
    with (
        running_platform(folder / "platform", settings, volume=trained_volume) as platform,
        monitoring_stack(folder / "stack", platform) as stack,
        platform.client(platform.admin_token()) as admin,
    ):
        make_users(admin)
        refused_logins(platform)
        work(platform, admin, sample)
        with steady_load(platform, sample):
            yield stack


def finite(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in series if math.isfinite(float(one["value"][1]))]


def data(stack: MonitoringStack, expr: str) -> list[dict[str, Any]]:
    """Return what the query gives, waiting for it: rates need two readings, rules a turn."""
    asked = substituted(expr, rate_interval="30s", whole="15m")
    deadline = time.monotonic() + DATA_WITHIN_S
    while not (found := finite(stack.query(asked))) and time.monotonic() < deadline:
        time.sleep(1)
    return found


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_query_of_a_panel_returns_data(busy: MonitoringStack, query: PanelQuery) -> None:
    if query.exporter_away is not None:
        busy.query(substituted(query.expr, rate_interval="30s", whole="15m"))  # raises where Prometheus cannot parse it
        pytest.skip(f"not run, only parsed: {query.exporter_away} cannot run here")
    assert data(busy, query.expr), query.expr
    if not query.instant:
        assert curve(busy, query.expr), f"no curve: {query.expr}"


def curve(stack: MonitoringStack, expr: str) -> list[Any]:
    """Return the series as Grafana draws them, over the last minute."""
    now = time.time()
    asked: dict[str, str | float] = {
        "query": substituted(expr, rate_interval="30s", whole="15m"),
        "start": now - 60,
        "end": now,
        "step": 5,
    }
    answer = stack.prometheus.get("/api/v1/query_range", params=asked)
    answer.raise_for_status()
    found: list[Any] = answer.json()["data"]["result"]
    return found


@pytest.mark.parametrize(("name", "metric", "label"), VARIABLES, ids=[name for name, _, _ in VARIABLES])
def test_a_variable_has_values_to_choose_from(busy: MonitoringStack, name: str, metric: str, label: str) -> None:
    answer = busy.prometheus.get(f"/api/v1/label/{label}/values", params={"match[]": metric})
    answer.raise_for_status()
    if metric.startswith("container_"):
        pytest.skip("not run, only parsed: cAdvisor cannot run here")
    assert answer.json()["data"], name


def test_a_promotion_is_marked_in_its_first_minute(busy: MonitoringStack) -> None:
    deadline = time.monotonic() + DATA_WITHIN_S
    marked: set[str] = set()  # the first champion, and the one trained here once it is loaded and scraped
    while len(marked) < 2 and time.monotonic() < deadline:
        marked |= {one["metric"]["version"] for one in busy.query(f"max_over_time(({PROMOTIONS})[15m:5s])")}
        time.sleep(1)
    assert len(marked) >= 2


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium"), 1280, 860) as window:
        yield window


def keep(browser: Browser, name: str) -> None:
    """Write the picture to the folder that DOCS_PICTURES names, if it names one."""
    folder = os.environ.get("DOCS_PICTURES")
    packed = io.BytesIO()
    Image.open(io.BytesIO(browser.screenshot())).convert("RGB").quantize(COLOURS).save(packed, "PNG", optimize=True)
    assert packed.tell() < MOST_BYTES
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(packed.getvalue())


def address(stack: MonitoringStack) -> str:
    return str(stack.prometheus.base_url).rstrip("/")


def says(text: str) -> str:
    return f"//*[contains(normalize-space(text()), '{text}')]"


def test_page_of_prometheus_shows_which_alerts_fire_and_why(busy: MonitoringStack, browser: Browser) -> None:
    browser.open(f"{address(busy)}/classic/alerts")
    browser.find(says("AvailabilityBurning"))
    browser.run("localStorage.hideInactiveAlerts = localStorage.hidePendingAlerts = 'true'")
    browser.open(f"{address(busy)}/classic/alerts")
    alert = browser.find(says("DriftAlarm"))
    alert.click()
    browser.find("//td//*[normalize-space(text()) = 'firing']")
    browser.run(WITHOUT_FOLDERS)
    browser.scroll_to(alert, "start")
    browser.run("window.scrollBy(0, -90)")  # out from under the page's head
    keep(browser, "prometheus-alerts")


def test_page_of_prometheus_draws_what_a_panel_asks(busy: MonitoringStack, browser: Browser) -> None:
    buckets = 'http_request_duration_seconds_bucket{job="gateway",handler="/predict"}'
    asked = f"histogram_quantile(0.95, sum by (job, le) (rate({buckets}[30s])))"
    browser.open(f"{address(busy)}/classic/graph?g0.expr={quote(asked)}&g0.tab=0&g0.range_input=2m")
    browser.find("//div[contains(@class, 'legend')]//*[contains(text(), 'gateway')]")
    browser.scroll_to(browser.find("//*[local-name()='svg']//*[local-name()='path']"))
    keep(browser, "prometheus-graph")


def test_page_of_a_drift_report_needs_nothing_from_elsewhere(busy: MonitoringStack, browser: Browser) -> None:
    page = max((busy.platform.home / "data" / "drift").glob("*/drift_report.html"))
    browser.requested()
    browser.open(page.as_uri())
    browser.find("//h1")
    time.sleep(2)  # Evidently draws its part
    keep(browser, "drift-report")
    assert {url.partition(":")[0] for url in browser.requested()} <= {"file", "data", "blob"}


def test_page_of_the_terminal_is_drawn_under_load(busy: MonitoringStack, browser: Browser, tmp_path: Path) -> None:
    home = busy.platform.home
    settings = DashboardSettings(
        models_path=home / "models", data_path=home / "data", database_url=f"sqlite:///{home}/data/rayonnage.db"
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with closing(Watcher(home, busy.platform.values, settings)) as watcher:
        watcher.look()
        time.sleep(TRAFFIC_S)
        picture = watcher.look()
    console.print(drawn(picture, COLUMNS))

    assert picture.troubles == {}
    assert picture.traffic is not None and picture.traffic.predictions_per_s
    assert picture.drift is not None and len(picture.jobs) >= 2
    path = tmp_path / "dashboard.svg"
    path.write_text(console.export_svg(title="rayonnage dashboard"), encoding="utf-8")
    browser.open(path.as_uri())
    keep(browser, "terminal-dashboard")
