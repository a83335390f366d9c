"""Drift of a real champion's answers: the command `rayonnage monitor`, and the job, which may queue a training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.cli.monitoring import EXIT_DRIFT
from rayonnage_shared.database.engine import open_database
from rayonnage_shared.drift.evidently.report import EvidentlyMissing
from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.drift.report_files import HTML_NAME, JSON_NAME
from rayonnage_shared.drift.schemas import DriftRequest
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.champion import POINTER_NAME
from rayonnage_shared.ml.bundles.manifest import BundleNotFound
from rayonnage_shared.ml.families.text.tfidf_svm import TfidfSvm
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.predictions.repository import LogUnreadable
from rayonnage_train.drift_job import report_and_act, request_like
from rayonnage_train.settings import TrainSettings
from tests.ml.answered_shop import AnsweredShop, Sent, trained_shop
from tests.unit.shared.ml.bundles.manifests import a_manifest


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> AnsweredShop:
    return trained_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(trained: AnsweredShop, tmp_path: Path) -> AnsweredShop:
    """A copy of the shop, which nobody has asked anything yet."""
    shutil.copytree(trained.folder, tmp_path, dirs_exist_ok=True)
    return AnsweredShop(tmp_path)


def test_a_few_answers_give_both_reports_and_no_verdict(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen()[:5])

    result = shop.monitor("--fail-on-drift")

    assert result.exit_code == 0, result.output
    assert "Too few rows for a verdict: 5 of 5 predictions" in result.output
    (folder,) = shop.reports()
    assert sorted(path.name for path in folder.iterdir()) == [HTML_NAME, JSON_NAME]
    report = shop.newest()
    assert (report.version, report.answers, report.enough_rows, report.drift) == (shop.champion, 5, False, False)
    assert "Too few rows" in (folder / HTML_NAME).read_text()


def test_answers_from_before_the_window_do_not_count(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen()[:1])
    assert shop.monitor("--hours", "0.01").exit_code == 0
    assert shop.newest().answers == 1
    shop.forget_answers()
    assert shop.monitor().exit_code == 0
    assert shop.newest().answers == 0


def test_what_the_champion_says_of_the_reference_is_asked_once(shop: AnsweredShop) -> None:
    paths = (shop.folder / "models", shop.folder / "data", shop.champion)
    first = reference_of(*paths)
    (kept,) = (shop.folder / "data" / "drift" / "references").iterdir()
    written = kept.stat().st_mtime_ns
    assert len(first.products) > 150
    assert reference_of(*paths) == first
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"half a file")
    assert reference_of(*paths) == first


def test_without_a_champion_or_a_log_one_sentence_says_so(shop: AnsweredShop) -> None:
    (shop.folder / "data" / "rayonnage.db").unlink()
    assert isinstance(shop.monitor().exception, LogUnreadable)
    (shop.folder / "models" / POINTER_NAME).unlink()
    assert isinstance(shop.monitor().exception, BundleNotFound)
    assert not shop.reports()


class Killed(BaseException):
    """Stands for kill -9: nothing in the product may catch it."""


def job(
    shop: AnsweredShop, name: str = "job-2", die_in: str | None = None, **settings: Any
) -> tuple[dict[str, Any], list[Job]]:
    """Run the drift job as its worker does; return its result and the trainings that are in the table now."""

    def stage(begun: str) -> None:
        if begun == die_in:
            raise Killed

    engine = open_database(shop.url)
    chosen: dict[str, Any] = {
        "models_path": shop.folder / "models",
        "data_path": shop.folder / "data",
        "drift_cool_down_h": 0,
    }
    try:
        result = report_and_act(
            DriftRequest(),
            RunContext(
                settings=TrainSettings(_env_file=None, **(chosen | settings)),
                engine=engine,
                job_id=name,
                submitted_by="jane",
                stage=stage,
                progress=silent,
            ),
        )
        return result, JobQueue(engine).list(kinds=["train"])
    finally:
        engine.dispose()


def test_late_labels_queue_one_training_however_often_the_job_is_killed(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen()[:60])
    assert shop.told_the_truth(9, days_ago=3) == 60
    newest = shop.learn_more()

    with pytest.raises(Killed):
        job(shop, die_in="retrain")
    decided = shop.newest().decision
    assert decided is not None and decided.retrain and decided.job_id
    result, (training,) = job(shop)
    again, trainings = job(shop)  # killed before its end was written

    assert [one.name for one in shop.reports()] == [result["report"]] == [again["report"]]
    assert trainings == [training]
    assert (training.job_id, training.submitted_by) == (decided.job_id, f"drift {result['report']}")
    assert decided.reason in training.log_tail[0]
    assert "feedback: on 60 predictions with feedback the accuracy is" in decided.reason
    assert result["decision"] == decided.model_dump()
    assert (result["drift"], result["feedback_alarm"], result["rows"]) == (False, True, 0)
    html = (shop.reports()[0] / HTML_NAME).read_text(encoding="utf-8")
    assert decided.reason in html

    later, trainings = job(shop, name="later")
    assert "a training is already queued or running. Reasons to train: feedback" in later["decision"]["reason"]
    assert trainings == [training]

    held = JobLeases(open_database(shop.url)).claim(["train"], 60)
    assert held is not None
    request = TrainRequest.model_validate(held.request)
    assert (request.text, request.image, request.promote) == ("tfidf-svm", None, "if_better")
    assert request.dataset_version == newest


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"drift_cool_down_h": 1}, "drift queues none until"),
        ({}, "the newest dataset is the one the champion was trained on"),
    ],
)
def test_a_training_that_is_not_called_for_is_not_queued(
    shop: AnsweredShop, settings: dict[str, Any], words: str
) -> None:
    shop.answer(shop.unseen()[:50])
    shop.told_the_truth(9, days_ago=3)

    result, trainings = job(shop, **settings)

    assert trainings == []
    assert words in result["decision"]["reason"]
    assert (result["decision"]["retrain"], result["decision"]["job_id"]) == (False, None)


def test_a_training_takes_over_what_a_search_found_for_the_champion() -> None:
    parameters = {**TfidfSvm.parameters, "penalty": 3.5, "gone": 1}
    champion = a_manifest(models={"text": {"family": "tfidf-svm", "parameters": parameters}})
    assert request_like(champion) == TrainRequest(
        text="tfidf-svm", image=None, fusion=None, parameters={"text.penalty": 3.5}
    )


def test_a_training_tries_a_fusion_again_that_was_left_out() -> None:
    champion = a_manifest(
        families={"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": None},
        models={"fusion": {"family": "concatenate", "parameters": {"penalty": 0.25}}},
        left_out={"fusion": "Text alone is right more often."},
    )
    assert request_like(champion) == TrainRequest(
        text="tfidf-svm", image="efficientnet-lite0", fusion="concatenate", parameters={"fusion.penalty": 0.25}
    )


def test_a_report_without_evidently_says_how_to_add_it(shop: AnsweredShop, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise EvidentlyMissing("Install it with `make monitor`.")

    monkeypatch.setattr("rayonnage_shared.drift.report.evidently_report", missing)
    result, _ = job(shop)
    html = (shop.reports()[0] / HTML_NAME).read_text(encoding="utf-8")
    assert "Evidently is not installed. Install it with `make monitor`." in html
    assert shop.newest().id == result["report"]
    assert isinstance(shop.monitor().exception, EvidentlyMissing), "the command needs it"
    assert len(shop.reports()) == 1


@pytest.mark.system
def test_the_pages_show_our_verdict_and_evidentlys(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen())

    result = shop.monitor("--fail-on-drift")

    assert result.exit_code == 0, result.output
    assert "No drift" in result.output
    report = shop.newest()
    assert report.enough_rows and report.evidently is not None
    html = (shop.reports()[0] / HTML_NAME).read_text(encoding="utf-8")
    assert html.index("<body>") < html.index("Rayonnage: drift") < html.index("root_metric")
    assert not list((shop.folder / "data" / "drift").glob(".making*"))


@pytest.mark.system
def test_drift_fails_the_command_where_that_is_asked_for(shop: AnsweredShop) -> None:
    shop.answer(Sent(f"Large blue swimming pool cover for the whole family, size {size}") for size in range(100))

    assert shop.monitor().exit_code == 0
    assert shop.monitor("--fail-on-drift").exit_code == EXIT_DRIFT
    assert {one.name for one in shop.newest().columns if one.drift} >= {"language", "category", "embedding"}
