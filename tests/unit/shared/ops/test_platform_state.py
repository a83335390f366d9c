"""Looking at a platform of which some parts answer, some are away and some are broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from rayonnage_shared.core.processes import PROCESSES, REPLICA_PORT_STEP
from rayonnage_shared.ops.platform_state import DashboardSettings, Picture, Watcher
from tests.http_server import serving
from tests.ports import free_ports_of_replicas
from tests.waiting import PATIENCE_S

Serve = Callable[..., int]
READY = {"/health/ready": (200, "{}")}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves these statuses and bodies by path and returns the port; the dictionary may be changed meanwhile."""
    with ExitStack() as stack:

        def start(pages: dict[str, tuple[int, str]], port: int = 0) -> int:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, body = pages.get(self.path, (404, ""))
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body.encode())

            return int(stack.enter_context(serving(Handler, port=port)).rpartition(":")[2])

        yield start


def settings(folder: Path) -> DashboardSettings:
    return DashboardSettings(
        models_path=folder / "models", data_path=folder / "data", database_url=f"sqlite:///{folder}/data/rayonnage.db"
    )


def nobody(**ports: int) -> dict[str, str]:
    """Addresses at which nobody listens (port 1), but for these."""
    return {port.setting: "1" for one in PROCESSES for port in one.ports()} | {
        name: str(port) for name, port in ports.items()
    }


def by_name(picture: Picture) -> dict[str, str | None]:
    return {service.name: service.trouble for service in picture.services}


def test_a_platform_that_is_away_is_a_picture_of_that_and_nothing_is_written(tmp_path: Path) -> None:
    with closing(Watcher(tmp_path, nobody(), settings(tmp_path))) as watcher:
        picture = watcher.look()

    assert all(trouble and "no answer" in trouble for trouble in by_name(picture).values())
    assert (picture.champion, picture.drift, picture.log, picture.jobs) == (None, None, None, ())
    assert picture.troubles == {"jobs": "there is no database yet"}
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_says_is_shown(tmp_path: Path, serve: Serve) -> None:
    metrics = (
        f"process_start_time_seconds {time.time() - 90}\n"
        "process_resident_memory_bytes 2.5e+08\n"
        "rayonnage_prediction_log_written_total 12\n"
        "rayonnage_prediction_log_waiting 3\n"
        "rayonnage_prediction_log_dropped_total 0\n"
    )
    port = serve(READY | {"/metrics": (200, metrics)})
    with closing(Watcher(tmp_path, nobody(PREDICT_PORT=port), settings(tmp_path))) as watcher:
        picture = watcher.look()

    predict = next(service for service in picture.services if service.name == "predict")
    assert (predict.trouble, predict.replicas, predict.memory_bytes) == (None, 1, 2.5e8)
    assert predict.uptime is not None and 89 <= predict.uptime.total_seconds() <= 90 + PATIENCE_S
    assert picture.log is not None and (picture.log.written, picture.log.waiting) == (12, 3)


def test_why_a_process_is_not_ready_is_shown_in_its_own_words(tmp_path: Path, serve: Serve) -> None:
    port = serve({"/health/ready": (503, '{"detail": "no champion is loaded"}'), "/metrics": (200, "")})
    with closing(Watcher(tmp_path, nobody(PREDICT_PORT=port), settings(tmp_path))) as watcher:
        assert "no champion is loaded" in (by_name(watcher.look())["predict"] or "")


def test_traffic_is_what_happened_between_two_looks(tmp_path: Path, serve: Serve) -> None:
    def page(requests: int) -> tuple[int, str]:
        return 200, (
            f'http_requests_total{{status="200",handler="/predict"}} {requests}\n'
            f'http_request_duration_seconds_bucket{{handler="/predict",le="0.1"}} {requests}\n'
            f'http_request_duration_seconds_bucket{{handler="/predict",le="+Inf"}} {requests}\n'
        )

    pages = {"/metrics": page(1000)}
    port = serve(pages)
    with closing(Watcher(tmp_path, nobody(GATEWAY_METRICS_PORT=port), settings(tmp_path))) as watcher:
        assert watcher.look().traffic is None
        pages["/metrics"] = page(1100)
        traffic = watcher.look().traffic

    assert traffic is not None and traffic.requests_per_s is not None
    assert traffic.requests_per_s * traffic.over_s == pytest.approx(100)
    assert traffic.p50_s == pytest.approx(0.05)
    assert (traffic.failed_per_s, traffic.predictions_per_s) == (0, None)


def test_replicas_are_shown_one_by_one_and_their_metrics_are_summed(tmp_path: Path, serve: Serve) -> None:
    def page(predictions: int) -> dict[str, tuple[int, str]]:
        text = (
            f'rayonnage_predictions_total{{decision="accept"}} {predictions}\n'
            "rayonnage_predict_in_flight 2\n"
            "rayonnage_prediction_log_written_total 7\n"
        )
        return READY | {"/metrics": (200, text)}

    first = free_ports_of_replicas(2)
    pages = [page(1000), page(500)]
    for number, one in enumerate(pages):
        serve(one, first + REPLICA_PORT_STEP * number)
    values = nobody(PREDICT_PORT=first, PREDICT_REPLICAS=2)
    with closing(Watcher(tmp_path, values, settings(tmp_path))) as watcher:
        watcher.look()
        pages[0].update(page(1050))
        pages[1].update(page(10))  # it was started again
        picture = watcher.look()

    predicts = {name: trouble for name, trouble in by_name(picture).items() if name.startswith("predict")}
    assert predicts == {"predict": None, "predict-2": None}
    assert picture.log is not None and picture.log.written == 14
    assert picture.traffic is not None and picture.traffic.predictions_per_s is not None
    assert picture.traffic.predictions_per_s * picture.traffic.over_s == pytest.approx(60)
    assert picture.traffic.in_flight == 4


@pytest.mark.parametrize("answer", [(200, "<html>no metrics</html>"), (500, "broken"), (200, "\x00\xff")])
def test_a_process_that_answers_nonsense_breaks_nothing(tmp_path: Path, serve: Serve, answer: tuple[int, str]) -> None:
    port = serve({"/metrics": answer, "/health/ready": answer})
    with closing(Watcher(tmp_path, nobody(PREDICT_PORT=port), settings(tmp_path))) as watcher:
        picture = watcher.look()

    assert picture.log is None
    assert next(service for service in picture.services if service.name == "predict").replicas == 0


def test_broken_files_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "champion.json").write_text("{", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rayonnage.db").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    report = tmp_path / "data" / "drift" / "20261121T120000000000Z-0a1b"
    report.mkdir(parents=True)
    (report / "drift_report.json").write_text("[]", encoding="utf-8")

    with closing(Watcher(tmp_path, nobody(), settings(tmp_path))) as watcher:
        picture = watcher.look()

    assert set(picture.troubles) == {"champion", "jobs", "drift"}
    assert all(picture.troubles.values())


def test_restarts_are_read_from_the_supervisors_log(tmp_path: Path) -> None:
    from rayonnage_shared.ops.platform_state import _restarts

    (tmp_path / "supervisord.log").write_text(
        "2026-11-21 09:00:00,000 INFO spawned: 'predict' with pid 5\n"
        "2026-11-21 10:00:00,000 INFO supervisord started with pid 10\n"
        "2026-11-21 10:00:01,000 INFO spawned: 'auth' with pid 11\n"
        "2026-11-21 10:00:01,000 INFO spawned: 'predict' with pid 12\n"
        "2026-11-21 10:05:00,000 WARN exited: predict (terminated by SIGKILL; not expected)\n"
        "2026-11-21 10:05:01,000 INFO spawned: 'predict' with pid 13\n",
        encoding="utf-8",
    )
    assert _restarts(tmp_path) == {"auth": 0, "predict": 1}
