"""Measure what each stage of a predict request costs: `python -m tests.bench.stages`. Writes docs/benchmarks.md.

Predict runs by itself under load, which gives the CPU time of a whole request. Each stage is then called in this
process with the same requests, and an empty application under the same server gives the cost of receiving and
responding. What the stages do not add up to is the glue between them, and caches that are colder under load.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, cast

import pydantic_core
import structlog

from rayonnage_predict.predictor import Caller, Predictor
from rayonnage_predict.request_parsing import parse
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.auth.dependencies import verified_caller
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.features.text import product_text
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.observability.http_metrics import RequestMetrics
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.predictions.inference import predict_product
from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.repository import insert_predictions
from tests.bench.http import products, train
from tests.bench.load import build_form, build_request, run_load
from tests.bench.predict_alone import Server, predict_alone, running
from tests.bench.report import write_section
from tests.bench.volumes import train_text_family
from tests.ports import free_ports
from tests.tokens import SECRET, token

CONNECTIONS = (1, 16)
BATCH_ROWS = 500


def main() -> None:
    default = str(TrainRequest().text)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run under load")
    parser.add_argument("--families", nargs="*", default=["tfidf-svm", default], help="text families")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    titles, photos = products()
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        home = Path(folder)
        base = train(home / "trained")
        for family in dict.fromkeys(arguments.families):
            volume = base if family == default else train_text_family(base, home / family, family)
            texts = Requests(titles, None)
            columns[f"title, `{family}`"] = profile(volume, texts, home / f"run-{family}", arguments)
        columns["title and photo, default"] = profile(base, Requests(titles, photos), home / "run-photo", arguments)
    table = _table(columns)
    print(table)
    if not arguments.no_write:
        write_section("stages", table)


class Requests:
    """The bodies that are sent, in turn: JSON for a title alone, a form with a photo."""

    def __init__(self, titles: Sequence[str], photos: Sequence[bytes] | None) -> None:
        self.titles = list(titles) if photos is None else list(titles)[: len(photos)]
        self.photos = photos
        if photos is None:
            self.bodies = [pydantic_core.to_json({"designation": title}) for title in titles]
            self.content_type = "application/json"
        else:
            forms = [build_form({"designation": title}, photo) for title, photo in zip(titles, photos, strict=False)]
            self.bodies, self.content_type = [body for body, _ in forms], forms[0][1]

    def built(self, access_token: str) -> list[bytes]:
        """Return the requests as bytes."""
        return [build_request("/predict", body, self.content_type, token=access_token) for body in self.bodies]


def profile(volume: Path, requests: Requests, home: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return CPU µs per request by stage, in the order of a request, then `whole` for each number of connections."""
    with ExitStack() as stack:
        predict = stack.enter_context(predict_alone(volume, home))
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "tests.bench.empty_server", str(port), "800"]
        empty = Server(port, stack.enter_context(running(command, port, Path.cwd(), {})), token())
        costs: dict[tuple[str, int], list[float]] = {}
        for _ in range(arguments.rounds):
            for connections in CONNECTIONS:
                for name, server in (("server", empty), ("whole", predict)):
                    cost = cpu_us(server, requests, connections, arguments.seconds)
                    costs.setdefault((name, connections), []).append(cost)
    found = {"receive and respond (uvicorn, kernel)": median(costs["server", CONNECTIONS[-1]])}
    found |= _stages(volume, requests, home, arguments.rounds)
    found["sum of the stages"] = sum(found.values())
    return found | {f"whole request, connections: {one}": median(costs["whole", one]) for one in CONNECTIONS}


def cpu_us(server: Server, requests: Requests, connections: int, seconds: float) -> float:
    """Return the server's CPU time for one request under load, in µs. Raises AssertionError if one is not answered."""
    sent = requests.built(server.token)
    run_load(server.port, sent, connections=connections, seconds=0.3)
    before = server.cpu_s()
    result = run_load(server.port, sent, connections=connections, seconds=seconds)
    assert set(result.statuses) == {200} and not result.broken, result.statuses
    return 1e6 * (server.cpu_s() - before) / len(result.latencies)


def _stages(volume: Path, requests: Requests, home: Path, rounds: int) -> dict[str, float]:
    settings = PredictSettings(
        _env_file=None, algorithm="HS256", secret_key=SECRET, logs_path=home / "stages", log_to_stdout=False
    )
    bundle, categories, limits = _champion(volume / "models"), load_categories(None), PhotoLimits()
    titles, photos = requests.titles, requests.photos
    pairs = list(zip(titles, photos or itertools.repeat(None), strict=False))
    texts = [product_text(title, None) for title in titles]
    verifier, authorization = TokenVerifier(settings), f"Bearer {token()}".encode()
    timed = [predict_product(bundle, categories, title, None, photo) for title, photo in pairs]
    parsed = [parse(requests.content_type, body, None) for body in requests.bodies]
    caller = Caller("ada", "request-0001", 0.0)
    unlogged = Predictor(categories, limits, cast(PredictionLog, _Nothing()))
    notes = PredictionLog(f"sqlite:///{home}/stages.db", max_waiting=10**6, keep_days=1)
    measured = RequestMetrics()
    size = bundle.image_model.input_size if bundle.image_model is not None else 0
    assert bundle.text_model is not None

    set_up_logging("stages", settings)
    log = structlog.get_logger()
    about = {"request_id": "request-0001", "method": "POST", "path": "/predict", "status": 200, "user": "ada"}
    count = len(titles)

    def cost(call: Callable[[int], object], calls: int = 1000) -> float:
        return stage_us(lambda number: call(number % count), calls if photos is None else calls // 5, rounds)

    found = {
        "verify the token": cost(lambda i: verified_caller(verifier, authorization)),
        "parse": cost(lambda i: parse(requests.content_type, requests.bodies[i], None)),
        "clean the text": cost(lambda i: product_text(titles[i], None)),
    }
    if photos is not None and bundle.image_model is not None:
        pixels = [read_photo(photo, size, limits)[None] for photo in photos]
        image = bundle.image_model
        found["decode the photo"] = cost(lambda i: read_photo(photos[i], size, limits))
        found["features and photo model"] = cost(lambda i: image.output(pixels[i]))
    text = bundle.text_model
    found["features and text model"] = cost(lambda i: text.output([texts[i]]))
    whole = cost(lambda i: predict_product(bundle, categories, pairs[i][0], None, pairs[i][1]))
    found["fuse, decide, describe"] = whole - sum(list(found.values())[2:])
    found["write JSON"] = cost(lambda i: pydantic_core.to_json(timed[i].document))

    def count_and_time(number: int) -> None:
        measured.record("POST", "200", "/bench", 0.001)
        unlogged._record(timed[number], parsed[number], caller)

    found["metrics"] = cost(count_and_time)
    found["log line"] = cost(lambda i: log.info("http.request", duration_ms=1.23, **about))
    found["prediction log, in the request"] = cost(
        lambda i: notes.add(timed[i].document, parsed[i].fields, parsed[i].photo, username="ada", request_id="request")
    )
    found["prediction log, in its thread"] = _written_us(notes, home)
    return found


def stage_us(call: Callable[[int], object], calls: int, rounds: int) -> float:
    """Return the CPU time of one call in µs, the median of the rounds; the calls are numbered."""
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        for number in range(calls):
            call(number)
        costs.append(1e6 * (time.process_time() - began) / calls)
    return median(costs)


def _written_us(notes: PredictionLog, home: Path) -> float:
    """Return the CPU time of writing one noted prediction into SQLite, in µs."""
    engine = open_database(f"sqlite:///{home}/stages.db")
    migrate(engine)
    rows = notes._buffer.take(10 * BATCH_ROWS)
    insert_predictions(engine, [row._replace(prediction_id="warm") for row in rows[:1]])
    batches = [
        [row._replace(prediction_id=f"{number}-{start}") for number, row in enumerate(rows[start : start + BATCH_ROWS])]
        for start in range(0, len(rows), BATCH_ROWS)
    ]
    began = time.process_time()
    for batch in batches:
        insert_predictions(engine, batch)
    spent = time.process_time() - began
    engine.dispose()
    return 1e6 * spent / len(rows)


def _champion(models: Path) -> Bundle:
    champion = read_champion(models)
    assert champion is not None
    bundle = load_bundle(models, champion.version)
    bundle.warm_up()
    return bundle


class _Nothing:
    """A prediction log that keeps nothing."""

    def add(self, *_arguments: Any, **_more: Any) -> None:
        """Do nothing."""


def _table(columns: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    names.sort(key=lambda name: name.startswith(("sum", "whole")))
    lines = [f"| CPU µs a request | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in names:
        cells = [f"{column[name]:.1f}" if name in column else "" for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
