"""HTTP of train."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from rayonnage_shared.auth.schemas import Revocation
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.ml.training.validation import known_parameters
from rayonnage_train.app import create_app
from rayonnage_train.routes import Train
from rayonnage_train.self_check import SelfCheckResult
from rayonnage_train.settings import TrainSettings
from tests.tokens import SECRET, bearer
from tests.unit.shared.ml.bundles.manifests import write_loadable_bundle
from tests.unit.shared.ml.catalogue.manifests import VERSION, write_dataset
from tests.unit.shared.ml.training.refusals import REFUSALS, Refusal, without_training_libraries

pytestmark = pytest.mark.usefixtures("own_metrics")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one dataset version."""
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
async def app(tmp_path: Path, data: Path, database_url: str) -> AsyncIterator[FastAPI]:
    settings = TrainSettings(
        _env_file=None,
        database_url=database_url,
        models_path=tmp_path / "models",
        data_path=data,
        algorithm="HS256",
        secret_key=SecretStr(SECRET),
        auth_url="http://127.0.0.1:9",
        train_max_queued=3,
        train_max_event_streams=1,
    )
    built = create_app(settings)
    async with built.router.lifespan_context(built):
        yield built


def train_of(app: FastAPI) -> Train:
    train: Train = app.state.train
    return train


def leases_of(app: FastAPI) -> JobLeases:
    return JobLeases(train_of(app).engine)


async def submitted(admin: httpx2.AsyncClient, path: str = "/train", body: dict[str, Any] | None = None) -> Job:
    answer = await admin.post(path, json=body) if body is not None else await admin.post(path)
    assert answer.status_code == 202, answer.text
    return Job.model_validate(answer.json())


async def test_a_training_without_a_body_is_queued_with_all_defaults(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    answer = await admin.post("/train")
    job = Job.model_validate(answer.json())
    assert (answer.status_code, job.status, job.kind, job.submitted_by) == (202, "queued", "train", "claire")
    assert answer.headers["location"] == f"/train/jobs/{job.job_id}"
    assert (await admin.get(answer.headers["location"])).json() == answer.json()
    held = leases_of(app).claim(["train"], 60)
    assert held is not None
    assert TrainRequest.model_validate(held.request) == TrainRequest(dataset_version=VERSION)


async def test_training_one_modality_is_queued_without_the_other(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    await submitted(admin, "/train/text", {"text": "tfidf-svm"})
    held = leases_of(app).claim(["train"], 60)
    assert held is not None
    assert (held.request["text"], held.request["image"]) == ("tfidf-svm", None)
    leases_of(app).cancel(held)
    await submitted(admin, "/train/image")
    held = leases_of(app).claim(["train"], 60)
    assert held is not None
    assert (held.request["text"], held.request["image"]) == (None, "efficientnet-lite0")


@pytest.mark.parametrize("path", ["/train", "/train/text", "/train/image"])
async def test_every_training_may_name_its_fusion(app: FastAPI, admin: httpx2.AsyncClient, path: str) -> None:
    asked = {"fusion": "concatenate", "parameters": {"fusion.penalty": 0.1}}

    job = await submitted(admin, path, asked)

    held = leases_of(app).claim(["train"], 60)
    assert held is not None
    assert held.job_id == job.job_id
    assert held.request | asked == held.request


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"dataset_version": "20200101T000000Z-0000"}, 404, "dataset_not_found"),
        ({"dataset_version": "../../etc"}, 404, "dataset_not_found"),
        ({"dataset_version": "\x00"}, 404, "dataset_not_found"),
        ({"parameters": {"text.colour": 1}}, 422, "unknown_parameter"),
        ({"text": "gpt"}, 422, "invalid_input"),
        ({"fusion": "cold"}, 422, "invalid_input"),
        ({"parameters": {"fusion.penalty": 1}}, 422, "unknown_parameter"),
        ({"fusion": "concatenate", "parameters": {"fusion.dropout": "half"}}, 422, "wrong_parameter"),
        ({"fusion": "concatenate", "parameters": {"fusion.dropout": 7}}, 422, "invalid_input"),
        ({"text": "camembert", "parameters": {"text.weights": "../../etc"}}, 422, "invalid_input"),
        ({"text": "camembert", "image": None, "parameters": {"epochs": 1000}}, 422, "invalid_input"),
        ({"surprise": 1}, 422, "invalid_input"),
        ([], 422, "invalid_input"),
    ],
)
async def test_what_cannot_be_trained_is_refused_at_once(
    admin: httpx2.AsyncClient, body: Any, status: int, code: str
) -> None:
    answer = await admin.post("/train", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
async def test_a_refusal_says_what_the_command_line_says(
    admin: httpx2.AsyncClient, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training_libraries(monkeypatch)
    response = await admin.post("/train", json=refusal.body)
    answer = response.json()
    assert 400 <= response.status_code < 500
    assert (answer["code"], answer["detail"]) == (refusal.code, refusal.detail)
    assert (await admin.get("/train/jobs")).json() == {"jobs": []}


async def test_a_dataset_that_is_too_small_is_refused_at_once(admin: httpx2.AsyncClient, data: Path) -> None:
    write_dataset(data, rows=2)
    for path, body in (("/train", {}), ("/train/search", {"text": "tfidf-svm"})):
        answer = await admin.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "dataset_too_small")


async def test_a_search_is_queued_with_its_budget(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    job = await submitted(admin, "/train/search", {"text": "tfidf-svm", "trials": 3, "fixed": {"penalty": 1}})
    assert job.kind == "search"
    held = leases_of(app).claim(["search"], 60)
    assert held is not None
    assert SearchRequest.model_validate(held.request) == SearchRequest(
        dataset_version=VERSION, text="tfidf-svm", trials=3, fixed={"penalty": 1}
    )
    assert [one["job_id"] for one in (await admin.get("/train/jobs")).json()["jobs"]] == [job.job_id]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_input"),
        ({"text": "tfidf-svm", "image": "efficientnet-lite0"}, 422, "invalid_input"),
        ({"text": "tfidf-svm", "trials": 0}, 422, "invalid_input"),
        ({"text": "tfidf-svm", "fixed": {"colour": 1}}, 422, "unknown_parameter"),
        ({"text": "tfidf-svm", "fixed": {"penalty": -1}}, 422, "invalid_input"),
        ({"text": "tfidf-svm", "fixed": {"penalty": 10**400}}, 422, "wrong_parameter"),
        ({"text": "lstm"}, 422, "family_not_trainable"),
        ({"image": "efficientnet-lite0", "fixed": {"penalty": 1}}, 422, "nothing_to_search"),
        ({"text": "tfidf-svm", "dataset_version": "20200101T000000Z-0000"}, 404, "dataset_not_found"),
    ],
)
async def test_what_cannot_be_searched_is_refused_at_once(
    admin: httpx2.AsyncClient, body: Any, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training_libraries(monkeypatch)
    answer = await admin.post("/train/search", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_parameter_that_is_no_number_is_refused(admin: httpx2.AsyncClient) -> None:
    known = known_parameters(TrainRequest())
    name = next(name for name, default in known.items() if isinstance(default, float))
    body = f'{{"parameters": {{"{name}": NaN}}}}'
    answer = await admin.post("/train", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_without_any_dataset_the_refusal_says_to_ingest(admin: httpx2.AsyncClient, data: Path) -> None:
    (data / "datasets" / "current.json").unlink()
    answer = await admin.post("/train")
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    assert "POST /ingest" in answer.json()["detail"]


async def test_a_full_queue_answers_503_with_a_time_to_come_back(admin: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await submitted(admin)
    answer = await admin.post("/train")
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert answer.headers["retry-after"] == "60"


async def test_jobs_are_listed_newest_first_and_by_status(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    jobs = [await submitted(admin) for _ in range(3)]
    await admin.delete(f"/train/jobs/{jobs[0].job_id}")
    train_of(app).queue.submit("scoring", {}, by="claire", concurrency_group="scoring")
    listed = (await admin.get("/train/jobs")).json()["jobs"]
    assert [job["job_id"] for job in listed] == [job.job_id for job in reversed(jobs)]
    cancelled = (await admin.get("/train/jobs", params={"status": "cancelled", "limit": 5})).json()["jobs"]
    assert [job["job_id"] for job in cancelled] == [jobs[0].job_id]
    assert (await admin.get("/train/jobs", params={"status": "asleep"})).status_code == 422


async def test_jobs_are_listed_by_kind(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    training = await submitted(admin)
    search = await submitted(admin, "/train/search", {"text": "tfidf-svm"})
    for kind, job in (("train", training), ("search", search)):
        listed = (await admin.get("/train/jobs", params={"kind": kind})).json()["jobs"]
        assert [one["job_id"] for one in listed] == [job.job_id]
    assert (await admin.get("/train/jobs", params={"kind": "drift"})).json() == {"jobs": []}
    unknown = await admin.get("/train/jobs", params={"kind": "scoring"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_input")


async def test_cancelling_answers_with_the_job_and_a_second_time_with_a_conflict(admin: httpx2.AsyncClient) -> None:
    job = await submitted(admin)
    answer = await admin.delete(f"/train/jobs/{job.job_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    again = await admin.delete(f"/train/jobs/{job.job_id}")
    assert (again.status_code, again.json()["code"]) == (409, "job_finished")
    assert again.json()["detail"] == f"Job {job.job_id} had already been cancelled."


@pytest.mark.parametrize("job_id", ["01HZZZZZZZZZZZZZZZZZZZZZZZ", "nothing"])
async def test_an_unknown_job_is_404_everywhere(admin: httpx2.AsyncClient, job_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = await admin.request(method, f"/train/jobs/{job_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


async def test_a_job_of_another_service_is_not_shown_here(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    other = train_of(app).queue.submit("scoring", {}, by="claire", concurrency_group="scoring")
    assert (await admin.get(f"/train/jobs/{other.job_id}")).status_code == 404


async def test_the_events_of_an_ended_job_are_its_final_state_and_the_end(admin: httpx2.AsyncClient) -> None:
    job = await submitted(admin)
    await admin.delete(f"/train/jobs/{job.job_id}")
    for _ in range(2):  # the one place that there is comes back after each
        answer = await admin.get(f"/train/jobs/{job.job_id}/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = next(line for line in answer.text.splitlines() if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["status"] == "cancelled"


async def test_the_stream_ends_within_a_poll_once_the_token_is_revoked(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    job = await submitted(admin)
    counted = 0
    original = app.state.verifier.verify

    def revoked_later(token: str) -> Any:
        nonlocal counted
        counted += 1
        if counted == 3:
            app.state.verifier.replace_revocations([Revocation(token_id=original(token).token_id)])
        return original(token)

    app.state.verifier.verify = revoked_later
    answer = await admin.get(f"/train/jobs/{job.job_id}/events")
    assert answer.status_code == 200
    assert answer.text.count("event: job") == 1


async def test_events_beyond_the_limit_of_callers_answer_503(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    job = await submitted(admin)
    with train_of(app).streams.place():
        answer = await admin.get(f"/train/jobs/{job.job_id}/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


ROUTES = [
    ("POST", "/train"),
    ("POST", "/train/text"),
    ("POST", "/train/image"),
    ("GET", "/train/jobs"),
    ("GET", "/train/jobs/x"),
    ("GET", "/train/jobs/x/events"),
    ("DELETE", "/train/jobs/x"),
    ("POST", "/drift"),
    ("POST", f"/models/{VERSION}/promote"),
    ("POST", "/models/rollback"),
    ("GET", "/models/promotions"),
    ("GET", "/test/preprocess/text/manual"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_is_for_admins(admin: httpx2.AsyncClient, method: str, path: str) -> None:
    del admin.headers["Authorization"]
    assert (await admin.request(method, path)).status_code == 401
    user = bearer("claire", "user")
    assert (await admin.request(method, path, headers=user)).status_code == 403


async def test_promoting_a_version_that_is_not_there_is_404(admin: httpx2.AsyncClient) -> None:
    for version in (VERSION, "latest", "%00"):
        answer = await admin.post(f"/models/{version}/promote", json={"reason": "looks better"})
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_rolling_back_without_an_earlier_champion_is_a_conflict(admin: httpx2.AsyncClient) -> None:
    answer = await admin.post("/models/rollback")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_roll_back_to")


async def test_the_history_of_promotions_is_the_audit_table_newest_first(
    app: FastAPI, admin: httpx2.AsyncClient
) -> None:
    assert (await admin.get("/models/promotions")).json() == {"promotions": []}
    older = "20200101T000000Z-0000"
    moves = []
    for version in (older, VERSION):
        write_loadable_bundle(train_of(app).models_path, version)
        moves.append((await admin.post(f"/models/{version}/promote", json={"reason": f"try {version}"})).json())
    moves.append((await admin.post("/models/rollback", json={"reason": "worse"})).json())

    listed = (await admin.get("/models/promotions")).json()["promotions"]

    assert listed == list(reversed(moves))
    assert [(one["version"], one["moved_by"], one["reason"]) for one in listed[:1]] == [(older, "claire", "worse")]
    assert (await admin.get("/models/promotions", params={"limit": 1})).json()["promotions"] == listed[:1]
    assert (await admin.get("/models/promotions", params={"limit": 0})).status_code == 422


async def test_the_self_check_of_the_preprocessing_answers_with_its_output(admin: httpx2.AsyncClient) -> None:
    answer = await admin.get("/test/preprocess/text/manual")
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"exit_code", "stdout", "stderr", "success"}
    found = SelfCheckResult.model_validate(answer.json())
    assert (found.exit_code, found.stderr, found.success) == (0, "", True)
    assert "L'été" in found.stdout


async def test_a_second_self_check_is_refused_while_one_runs(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    with train_of(app).self_check._running:
        answer = await admin.get("/test/preprocess/text/manual")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"]


async def test_ready_names_what_is_missing(admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await admin.get("/health/ready")).status_code == 200
    monkeypatch.setattr(TokenVerifier, "has_keys", False)
    answer = await admin.get("/health/ready")
    assert answer.status_code == 503
    assert list(answer.json()["dependencies"]) == ["auth"]


async def test_the_schema_describes_the_stream_and_errors_as_problems(admin: httpx2.AsyncClient) -> None:
    schema = (await admin.get("/openapi.json")).json()
    events = schema["paths"]["/train/jobs/{job_id}/events"]["get"]["responses"]
    assert list(events["200"]["content"]) == ["text/event-stream"]
    assert list(events["404"]["content"]) == ["application/problem+json"]
    assert "Job" in schema["components"]["schemas"]


@pytest.mark.parametrize("content", ["garbage{", json.dumps({"version": VERSION})])
async def test_a_broken_champion_pointer_is_named_and_a_promotion_repairs_it(
    app: FastAPI, admin: httpx2.AsyncClient, content: str
) -> None:
    models = train_of(app).models_path
    write_loadable_bundle(models, VERSION)
    (models / "champion.json").write_text(content)

    refused = await admin.post("/models/rollback")
    repaired = await admin.post(f"/models/{VERSION}/promote")
    after = await admin.post("/models/rollback")

    assert (refused.status_code, refused.json()["code"]) == (500, "champion_broken")
    assert "champion.json" in refused.json()["detail"]
    assert (repaired.status_code, repaired.json()["version"]) == (200, VERSION)
    assert (after.status_code, after.json()["code"]) == (409, "nothing_to_roll_back_to")


async def test_a_broken_bundle_is_not_promoted(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    (write_loadable_bundle(train_of(app).models_path, VERSION) / "manifest.json").write_text("{")

    answer = await admin.post(f"/models/{VERSION}/promote")

    assert (answer.status_code, answer.json()["code"]) == (500, "bundle_broken")


FAMILIES = "there is no text family of this name; known are "


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("GET", "/train/jobs?limit=many", None, "Query parameter `limit` must be a whole number."),
        ("GET", "/train/jobs?limit=0", None, "Query parameter `limit` must be at least 1."),
        ("GET", "/train/jobs?kind=x", None, "Query parameter `kind`: there is no such job type; known are "),
        ("GET", "/train/jobs/not%20an%20id", None, "Path parameter `job_id` must be a job id."),
        ("POST", "/train", '{"text": ', "The body is not valid JSON: see character 9."),
        ("POST", "/train", "[]", "The body must be a JSON object."),
        ("POST", "/train", '{"promot": "never"}', "Unknown field `promot`; did you mean `promote`?"),
        ("POST", "/train", '{"promote": "maybe"}', "`promote` must be 'if_better', 'never' or 'always'."),
        ("POST", "/train", '{"text": "bert"}', f"`text`: {FAMILIES}"),
        ("POST", "/train/search", "{}", "Name one family to search: `text` or `image`."),
        (
            *("POST", "/train", '{"parameters": {"text.penalty": []}}'),
            "`parameters.text.penalty` must be a number, a string, `true` or `false`.",
        ),
    ],
)
async def test_a_bad_request_is_refused_in_words(
    admin: httpx2.AsyncClient, method: str, path: str, body: str | None, detail: str
) -> None:
    answer = await admin.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)
