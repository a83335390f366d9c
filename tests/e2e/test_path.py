"""From nothing to predictions over HTTP alone: ingest, train, gate, promote, predict, roll back."""

from __future__ import annotations

import base64
import csv
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.api import (
    as_csv,
    catalogue,
    finished_job,
    ingest,
    job_events,
    predict_form,
    problem,
    start_training,
)
from tests.e2e.deployment import Deployment
from tests.e2e.documents import documented, validated
from tests.waiting import eventually


@dataclass(frozen=True)
class Shop:
    """A platform that began with nothing, and what was done to it so far."""

    platform: Deployment
    client: httpx2.Client
    two_files: dict[str, Any]
    one_file: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def first(self) -> str:
        """The first version."""
        return str(self.events[-1]["result"]["version"])


@pytest.fixture(scope="module")
def shop(sample: Path, empty_platform: Deployment) -> Iterator[Shop]:
    """Products ingested in both forms, and a first model trained on them."""
    platform = empty_platform
    with validated(platform.client(platform.admin_token()), documented(platform)) as client:
        problem(client.post("/predict", json={"designation": "Pompe de piscine"}), 503, "model_not_ready")
        problem(client.post("/train", json={}), 404, "dataset_not_found")

        with_photos = catalogue(sample, 0, 500)  # enough for a fusion that is better than text
        answer = ingest(client, with_photos.features, with_photos.target, with_photos.images)
        assert answer.status_code == 201, answer.text
        two_files = answer.json()

        answer = ingest(client, catalogue(sample, 500, 540).labelled)
        assert answer.status_code == 201, answer.text
        one_file = answer.json()

        events = list(job_events(client, start_training(client, text="tfidf-svm")))
        assert events[-1]["status"] == "succeeded", events[-1]
        yield Shop(platform, client, two_files, one_file, events)


def test_both_csv_forms_and_the_zip_are_ingested_into_growing_versions(shop: Shop) -> None:
    assert (shop.two_files["rows_total"], shop.two_files["rows_rejected"]) == (500, 0)
    assert shop.two_files["rows_added"] + shop.two_files["rows_duplicate"] == 500
    assert shop.two_files["images_added"] > 50
    assert shop.one_file["rows_total"] == 40
    datasets = shop.client.get("/datasets").json()
    assert datasets["current"] == shop.one_file["dataset_version"]
    newest, first = datasets["datasets"]
    assert newest["version"] == shop.one_file["dataset_version"]
    assert newest["parent"] == first["version"] == shop.two_files["dataset_version"]
    assert not newest["demo"]
    assert newest["rows"] == shop.two_files["rows_added"] + shop.one_file["rows_added"]
    assert newest["rows_train"] + newest["rows_test"] <= newest["rows"]
    assert shop.client.get(f"/datasets/{newest['version']}").json() == newest


def test_the_same_products_again_make_no_new_version(shop: Shop, sample: Path) -> None:
    again = catalogue(sample, 0, 200)
    answer = ingest(shop.client, again.features, again.target, again.images)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows_added"] == 0
    assert answer.json()["dataset_version"] == shop.one_file["dataset_version"]


def test_bad_rows_are_listed_and_the_good_ones_get_in(shop: Shop) -> None:
    rows = [
        {"designation": "Nouvelle piscine gonflable ronde", "productid": "1", "prdtypecode": "2583"},
        {"designation": "Sans code", "productid": "2", "prdtypecode": ""},
        {"designation": "Code inconnu", "productid": "3", "prdtypecode": "999999"},
        {"designation": "  ", "productid": "4", "prdtypecode": "10"},
        {"designation": "=HYPERLINK(1)", "productid": "5", "prdtypecode": "dix"},
    ]
    answer = ingest(shop.client, as_csv(("designation", "description", "productid", "prdtypecode"), rows))
    assert answer.status_code == 201, answer.text
    report = answer.json()
    assert (report["rows_added"], report["rows_rejected"]) == (1, 4)
    assert [reject["line"] for reject in report["rejects"]] == [3, 4, 5, 6]
    assert shop.client.get(f"/ingest/{report['ingest_id']}").json() == report

    table = shop.client.get(report["report_url"])
    assert table.headers["content-type"].startswith("text/csv")
    listed = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["line"] for row in listed] == ["3", "4", "5", "6"]
    assert "known code" in listed[1]["reason"]
    assert not listed[3]["designation"].startswith("="), "a spreadsheet would run this"


def test_an_ingest_without_one_good_row_is_refused_with_its_report(shop: Shop) -> None:
    before = shop.client.get("/datasets").json()
    answer = ingest(shop.client, b"designation,prdtypecode\nRien,\nRien non plus,abc\n")
    document = problem(answer, 422, "every_row_rejected")
    assert [reject["line"] for reject in document["rejects"]] == [2, 3]
    assert shop.client.get(document["report_url"]).status_code == 200
    assert shop.client.get("/datasets").json() == before


def test_what_is_no_table_is_refused(shop: Shop) -> None:
    problem(ingest(shop.client, b"PK\x03\x04 no table at all"), 422, "unreadable_table")
    problem(ingest(shop.client, b"designation,description\nsans code,\n"), 422, "unreadable_table")


def test_a_training_is_followed_from_the_queue_to_its_end(shop: Shop) -> None:
    statuses = [event["status"] for event in shop.events]
    assert statuses == sorted(statuses, key=["queued", "running", "succeeded"].index)
    last = shop.events[-1]
    assert (last["attempts"], last["error"], last["submitted_by"]) == (1, None, shop.platform.admin[0])
    assert all(0 <= event["progress"] <= 1 for event in shop.events)
    told = [event["progress"] for event in shop.events]
    assert told == sorted(told), "progress never decreases"
    stages = [event["stage"] for event in shop.events if event["stage"]]
    assert {"text", "image"} <= set(stages)
    result = last["result"]
    assert result["promoted"]
    assert result["reason"] == "there was no champion"
    assert {"accuracy", "f1_macro", "f1_weighted", "ece"} <= result["metrics"].keys()
    assert result["metrics"]["f1_weighted"] > 0.3, "27 codes by chance would give 0.05"
    jobs = shop.client.get("/train/jobs").json()["jobs"]
    assert shop.client.get(f"/train/jobs/{last['job_id']}").json() in jobs


def test_the_promoted_model_predicts_and_is_described(shop: Shop, sample: Path) -> None:
    serves(shop.client, shop.first)
    photo = (sample / "exemple.jpg").read_bytes()
    answer = predict_form(shop.client, photo, designation="Robot de piscine", product_identifier="R-1", top_k="27")
    prediction = checked(answer, text=True, image=True)
    assert len(prediction["predictions"]) == 27
    assert sum(one["probability"] for one in prediction["predictions"]) == pytest.approx(1, abs=1e-4)
    assert prediction["model"] == {"version": shop.first, "family": "fusion"}
    assert prediction["product_identifier"] == "R-1"

    info = shop.client.get("/info").json()
    champion = shop.events[-1]["result"]
    assert (info["ready"], info["version"], info["trained_on"]) == (
        True,
        shop.client.get("/models").json()["champion"],
        shop.one_file["dataset_version"],
    )
    details = shop.client.get(f"/models/{shop.first}").json()
    assert details["metrics"] == champion["metrics"]
    assert details["families"] == {"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": "weighted"}
    assert details["manifest"]["files"]


def test_the_promoted_model_shows_how_good_it_is_in_numbers_and_pictures(shop: Shop) -> None:
    details = shop.client.get(f"/models/{shop.first}").json()
    report = details["evaluation"]
    assert report["test"]["f1_weighted"] == details["metrics"]["f1_weighted"]
    assert {one["mode"] for one in report["timing"]} == {"text", "image", "both"}
    assert {one["mode"] for one in report["selective"]["held_out"]} == {"text", "image", "both"}
    assert report["disagreement"]["rows"] > 0
    assert details["manifest"]["models"]["text"]["family"] == "tfidf-svm"

    assert {"calibration", "classes", "confusion", "learning_text", "selective"} <= details["figures"].keys()
    for address in details["figures"].values():
        picture = shop.client.get(address)
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert picture.content.startswith(b"\x89PNG\r\n\x1a\n")
    known = shop.client.get(address, headers={"If-None-Match": picture.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    problem(shop.client.get(f"/models/{shop.first}/figures/nothing.png"), 404, "figure_not_found")
    problem(shop.client.get(address, headers={"Authorization": ""}), 401)


def test_the_gate_evaluates_the_next_model_and_promotions_are_recorded(shop: Shop) -> None:
    before = shop.platform.promotions()
    champion = shop.client.get("/models").json()["champion"]
    assert [row["version"] for row in before] == [shop.first]

    job = start_training(shop.client, "/train/text", text="tfidf-svm")
    judged = finished_job(shop.client, job)["result"]
    assert judged["version"] != champion
    assert not judged["promoted"], "a model of the same kind on the same rows does not beat the champion"
    assert judged["reason"]
    serves(shop.client, champion)

    moved = shop.client.post(f"/models/{judged['version']}/promote", json={"reason": "wanted by the test"})
    assert moved.status_code == 200, moved.text
    assert (moved.json()["version"], moved.json()["previous"]) == (judged["version"], champion)
    serves(shop.client, judged["version"])
    listed = shop.client.get("/models").json()
    assert {one["version"]: one["champion"] for one in listed["models"]} == {judged["version"]: True, champion: False}

    problem(shop.client.post("/models/rollback"), 409, "older_data")  # a product was ingested in between
    back = shop.client.post("/models/rollback", json={"reason": "the test is over", "allow_older_data": True})
    assert back.status_code == 200, back.text
    assert back.json()["version"] == champion
    serves(shop.client, champion)
    problem(shop.client.post("/models/rollback"), 409, "nothing_to_roll_back_to")

    rows = shop.platform.promotions()[len(before) :]
    older, newer = (
        shop.client.get(f"/models/{one}").json()["dataset_version"] for one in (champion, judged["version"])
    )
    words = f"{champion} was trained on dataset {older}, the champion on the newer {newer}"
    assert [(row["version"], row["previous"], row["moved_by"], row["reason"]) for row in rows] == [
        (judged["version"], champion, shop.platform.admin[0], "wanted by the test"),
        (champion, judged["version"], shop.platform.admin[0], f"the test is over (older data allowed: {words})"),
    ]


def test_what_is_not_there_cannot_be_promoted(shop: Shop) -> None:
    problem(shop.client.post("/models/20200101T000000Z-abcd/promote"), 404)
    outside = shop.client.post("/models/..%2F..%2Fdata/promote")
    problem(outside, outside.status_code)
    assert outside.status_code in (400, 404), "nginx refuses such a path itself"
    problem(shop.client.get("/models/20200101T000000Z-abcd"), 404)


def test_a_training_with_unknown_parameters_is_refused_before_it_is_queued(shop: Shop) -> None:
    problem(shop.client.post("/train", json={"parameters": {"text.depth": 3}}), 422, "unknown_parameter")
    problem(shop.client.post("/train", json={"text": "gpt"}), 422)
    problem(shop.client.post("/train", json={"dataset_version": "20200101T000000Z-abcd"}), 404)


def serves(client: httpx2.Client, version: str) -> None:
    """Wait until predictions come from this version."""

    def comes() -> bool:
        answer = client.post("/predict", json={"designation": "Pompe de piscine"})
        return answer.status_code == 200 and answer.json()["model"]["version"] == version

    assert eventually(comes), f"predict does not serve {version}"


def checked(answer: httpx2.Response, *, text: bool, image: bool) -> dict[str, Any]:
    """Assert that the answer is a prediction from these modalities, and return it."""
    assert answer.status_code == 200, answer.text
    prediction: dict[str, Any] = answer.json()
    best = prediction["predictions"][0]
    assert prediction["predicted"] == prediction["predicted_category"] == str(best["category_id"])
    assert (prediction["category_id"], prediction["label"]) == (best["category_id"], best["label"])
    assert prediction["confidence"] == best["probability"]
    ranked = [one["probability"] for one in prediction["predictions"]]
    assert ranked == sorted(ranked, reverse=True)
    assert prediction["decision"] in {"accept", "review"}
    used = {name: modality["used"] for name, modality in prediction["modalities"].items()}
    assert used == {"text": text, "image": image}
    assert len(prediction["prediction_id"]) == 26
    return prediction


@pytest.fixture(scope="module")
def client(platform: Deployment) -> Iterator[httpx2.Client]:
    with validated(platform.client(platform.admin_token()), documented(platform)) as opened:
        yield opened


@pytest.fixture(scope="module")
def photo(sample: Path) -> bytes:
    return (sample / "exemple.jpg").read_bytes()


TITLE = "Robot nettoyeur de piscine hors sol"


def test_title_and_photo_give_the_same_prediction_in_both_forms(client: httpx2.Client, photo: bytes) -> None:
    form = checked(predict_form(client, photo, designation=TITLE, description="Pour bassin"), text=True, image=True)
    encoded = base64.b64encode(photo).decode()
    product = {"designation": TITLE, "description": "Pour bassin", "image": encoded}
    as_json = checked(client.post("/predict", json=product), text=True, image=True)
    product["image"] = f"data:image/jpeg;base64,{encoded}"
    as_uri = checked(client.post("/predict", json=product), text=True, image=True)
    assert form["predictions"] == as_json["predictions"] == as_uri["predictions"]
    assert form["category_id"] == 2583
    assert len(form["predictions"]) == 3


def test_text_alone_is_enough(client: httpx2.Client) -> None:
    by_json = checked(client.post("/predict", json={"designation": TITLE}), text=True, image=False)
    by_form = checked(predict_form(client, None, designation=TITLE), text=True, image=False)
    manual = checked(client.post("/predict/text/manual", json={"designation": TITLE}), text=True, image=False)
    assert by_json["predictions"] == by_form["predictions"] == manual["predictions"]
    checked(client.post("/predict", json={"description": "Un grand bassin gonflable"}), text=True, image=False)


def test_a_photo_alone_is_enough(client: httpx2.Client, photo: bytes) -> None:
    by_form = checked(predict_form(client, photo), text=False, image=True)
    manual = checked(predict_form(client, photo, "/predict/image/manual"), text=False, image=True)
    by_json = client.post("/predict/image/manual", json={"image": base64.b64encode(photo).decode()})
    assert by_form["predictions"] == manual["predictions"] == checked(by_json, text=False, image=True)["predictions"]


def test_neither_text_nor_photo_is_refused(client: httpx2.Client) -> None:
    problem(client.post("/predict", json={}), 422, "invalid_input")
    problem(client.post("/predict", json={"designation": "", "image": ""}), 422, "invalid_input")
    problem(client.post("/predict", json={"designation": " <br> "}), 422, "invalid_input")
    problem(predict_form(client, None, product_identifier="7"), 422, "invalid_input")


def test_a_manual_route_refuses_the_other_modality(client: httpx2.Client, photo: bytes) -> None:
    problem(predict_form(client, photo, "/predict/text/manual", designation=TITLE), 422)
    problem(predict_form(client, photo, "/predict/image/manual", designation=TITLE), 422)
    problem(client.post("/predict/text/manual", json={}), 422)
    problem(client.post("/predict/image/manual", json={}), 422)


@pytest.mark.parametrize(
    "content",
    [b"not a photo", b"\xff\xd8\xff\xe0 cut short", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", b"<svg/>"],
    ids=["text", "cut", "gif", "svg"],
)
def test_a_photo_that_is_none_is_refused(client: httpx2.Client, content: bytes) -> None:
    problem(predict_form(client, content, designation=TITLE), 422, "not_an_image")
    problem(client.post("/predict", json={"image": base64.b64encode(content).decode()}), 422, "not_an_image")


def test_a_cut_photo_is_refused(client: httpx2.Client, photo: bytes) -> None:
    problem(predict_form(client, photo[: len(photo) // 2]), 422, "not_an_image")


def test_a_photo_by_path_or_address_is_never_read(client: httpx2.Client) -> None:
    for image in ("/etc/passwd", "http://127.0.0.1/photo.jpg", "file:///etc/passwd"):
        problem(client.post("/predict", json={"image": image}), 422)


def png_bomb(side: int) -> bytes:
    """Return a small PNG that would unpack to `side`² pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_unpacked(client: httpx2.Client) -> None:
    bomb = png_bomb(20_000)
    assert len(bomb) < 100_000
    problem(predict_form(client, bomb, designation=TITLE), 413, "image_too_large")
    assert client.post("/predict", json={"designation": TITLE}).status_code == 200


def test_what_is_too_long_is_refused(client: httpx2.Client, photo: bytes) -> None:
    problem(predict_form(client, photo + bytes(5_000_000)), 413, "image_too_large")
    problem(predict_form(client, bytes(11_000_000)), 413, "body_too_large")
    problem(client.post("/predict", json={"designation": "a" * 20_001}), 422, "invalid_input")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"designation": ', "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"designation": "a", "prix": 3}', "application/json", 422),
        (b'{"designation": "a", "top_k": 28}', "application/json", 422),
        (b"designation=a", "application/x-www-form-urlencoded", 415),
        (b"--x\r\nno form", "multipart/form-data; boundary=x", 422),
        (b"nothing", "multipart/form-data", 422),
    ],
)
def test_a_body_that_is_none_is_refused(client: httpx2.Client, body: bytes, kind: str, status: int) -> None:
    problem(client.post("/predict", content=body, headers={"Content-Type": kind}), status)


def test_the_platform_says_that_it_works(client: httpx2.Client) -> None:
    assert client.get("/status").json() == {"status": "L'API fonctionne correctement"}
    assert client.get("/").json()["message"].startswith("Bienvenue")
    ready = client.get("/health/ready").json()
    assert ready["status"] == "ok"
    assert set(ready["dependencies"]) >= {"auth", "ingest", "train", "predict"}


def test_a_request_id_is_kept_and_a_bad_one_replaced(client: httpx2.Client) -> None:
    assert client.get("/info", headers={"X-Request-ID": "shop-12345"}).headers["x-request-id"] == "shop-12345"
    given = client.get("/info", headers={"X-Request-ID": "a b"}).headers["x-request-id"]
    assert given != "a b" and len(given) == 26
