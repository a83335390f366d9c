"""`rayonnage train | search | evaluate | predict | models`, and `promote | rollback | promotions`, in this process."""

from __future__ import annotations

import csv
import getpass
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from rayonnage_shared.cli.database import command_database
from rayonnage_shared.cli.sync import catch_up
from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.ml.training.requests import FUSION_DEFAULT, PipelineRequest, SearchRequest, TrainRequest
from rayonnage_shared.pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from rayonnage_shared.pipelines.run_context import RunContext

console = Console(stderr=True)
R = TypeVar("R", bound=PipelineRequest)
ALLOW_OLDER_DATA = "allow a version that was trained on older data than the champion, or on the demo catalogue."
_MESSAGE = TextColumn("{task.fields[message]}")


class ModelSettings(PipelineSettings, DatabaseSettings):
    """What these commands read from the environment."""


def register(app: typer.Typer) -> None:
    """Add the commands for models."""
    for command in (train, search, evaluate, promote, rollback, promotions, predict):
        app.command()(command)
    app.command("models")(list_models)


def train(
    text: Annotated[str, typer.Option(help="Text family, or `none` to keep the champion's.")] = "tfidf-embedding",
    image: Annotated[str, typer.Option(help="Photo family, or `none` to keep the champion's.")] = "efficientnet-lite0",
    fusion: Annotated[str | None, typer.Option(help=FUSION_DEFAULT)] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset version; default: the newest.")] = None,
    promote: Annotated[str, typer.Option(help="When to promote: if_better, never or always.")] = "if_better",
    allow_older_data: Annotated[
        bool, typer.Option("--allow-older-data", help=f"With --promote always: {ALLOW_OLDER_DATA}")
    ] = False,
    parameter: Annotated[
        list[str] | None, typer.Option(help="Training parameter name=value, such as text.penalty=2; repeatable.")
    ] = None,
) -> None:
    """Train a bundle, compare it with the champion, and promote it if it is better."""
    from rayonnage_shared.pipelines import training as pipeline

    request = TrainRequest.model_validate(
        {
            "dataset_version": dataset,
            "text": None if text == "none" else text,
            "image": None if image == "none" else image,
            "fusion": fusion,
            "promote": promote,
            "allow_older_data": allow_older_data,
            "parameters": dict(_parameter(one) for one in parameter or []),
        }
    )
    _run_here(request, pipeline.train)


def search(
    text: Annotated[str | None, typer.Option(help="Text family to search.")] = None,
    image: Annotated[str | None, typer.Option(help="Photo family to search instead.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset version; default: the newest.")] = None,
    goal: Annotated[str, typer.Option(help="Metric to optimise: f1_macro, f1_weighted or log_loss.")] = "f1_macro",
    trials: Annotated[int, typer.Option(help="Maximum number of trials.")] = 20,
    budget_s: Annotated[
        float, typer.Option(help="Maximum time in seconds; the search stops at whichever limit comes first.")
    ] = 1800,
    fixed: Annotated[
        list[str] | None, typer.Option(help="Parameter with a fixed value, such as penalty=2; repeatable.")
    ] = None,
    then_train: Annotated[bool, typer.Option("--train/--no-train", help="Train with the best parameters.")] = True,
    promote: Annotated[str, typer.Option(help="When to promote: if_better, never or always.")] = "if_better",
    allow_older_data: Annotated[
        bool, typer.Option("--allow-older-data", help=f"With --promote always: {ALLOW_OLDER_DATA}")
    ] = False,
) -> None:
    """Search for better parameters of one family within a budget, and train a bundle with the best."""
    from rayonnage_shared.pipelines.search import search_and_train

    request = SearchRequest.model_validate(
        {
            "dataset_version": dataset,
            "text": text,
            "image": image,
            "goal": goal,
            "trials": trials,
            "budget_s": budget_s,
            "fixed": dict(_parameter(one) for one in fixed or []),
            "train": then_train,
            "promote": promote,
            "allow_older_data": allow_older_data,
        }
    )
    _run_here(request, search_and_train)


def _run_here(request: R, pipeline: Callable[[R, RunContext[ModelSettings]], dict[str, Any]]) -> None:
    """Run a pipeline in this process, show its progress, and print its result.

    A run that was killed or interrupted is resumed by the same command.
    """
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore
    from rayonnage_shared.ml.training.validation import validate_request
    from rayonnage_shared.pipelines.command_runs import resumable_run
    from rayonnage_shared.pipelines.run_context import RunContext

    settings = ModelSettings()
    request = validate_request(request, DatasetStore(settings.data_path))
    with (
        resumable_run(settings.models_path, request) as command,
        command_database(settings) as engine,
        _bar() as (bar, task),
    ):
        if command.resumed:
            console.print("An earlier run of this command was interrupted; its finished stages are not run again.")
        result = pipeline(
            request,
            RunContext(
                settings=settings,
                engine=engine,
                job_id=command.id,
                submitted_by=getpass.getuser(),
                stage=lambda name: bar.update(task, description=name),
                progress=lambda fraction, message: bar.update(task, completed=fraction, message=message),
            ),
        )
    _print_json(result)
    catch_up()


def evaluate(
    version: Annotated[str | None, typer.Argument(help="Model version; default: the champion.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset version; default: the one trained on.")] = None,
    classes: Annotated[bool, typer.Option(help="Also show each category.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON instead.")] = False,
) -> None:
    """Evaluate a model on the test split, without the rows it was trained on, and print its report."""
    from rayonnage_shared.cli.report_tables import print_report
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore
    from rayonnage_shared.pipelines.training import evaluate_version

    settings = ModelSettings()
    chosen = version or _champion_version(settings.models_path)
    with _bar() as (bar, task):
        report = evaluate_version(
            chosen,
            models_path=settings.models_path,
            store=DatasetStore(settings.data_path),
            dataset_version=dataset,
            progress=lambda fraction, message: bar.update(task, completed=fraction, message=message),
        )
    if as_json:
        _print_json({"version": chosen, **report.model_dump(mode="json")})
    else:
        print_report(Console(), report, classes=classes)


def promote(
    version: Annotated[str, typer.Argument(help="Model version to promote.")],
    reason: Annotated[str, typer.Option(help="Recorded in the audit table.")] = "requested on the command line",
    allow_older_data: Annotated[bool, typer.Option("--allow-older-data", help=ALLOW_OLDER_DATA.capitalize())] = False,
) -> None:
    """Promote a version: make it the champion."""
    from rayonnage_shared.registry.promotion import promote as move

    settings = ModelSettings()
    with command_database(settings) as engine:
        moved = move(
            settings.models_path, engine, version, getpass.getuser(), reason, allow_older_data=allow_older_data
        )
    _print_json(moved.model_dump(mode="json"))
    catch_up()


def rollback(
    reason: Annotated[str, typer.Option(help="Recorded in the audit table.")] = "requested on the command line",
    allow_older_data: Annotated[bool, typer.Option("--allow-older-data", help=ALLOW_OLDER_DATA.capitalize())] = False,
) -> None:
    """Roll back: make the previous champion the champion again."""
    from rayonnage_shared.registry.promotion import rollback as move

    settings = ModelSettings()
    with command_database(settings) as engine:
        moved = move(settings.models_path, engine, getpass.getuser(), reason, allow_older_data=allow_older_data)
    _print_json(moved.model_dump(mode="json"))
    catch_up()


def promotions(
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many to show.")] = 20,
) -> None:
    """List promotions and rollbacks, newest first: which version, when, by whom and why."""
    from rayonnage_shared.registry.promotion import promotion_history

    with command_database(ModelSettings()) as engine:
        found = promotion_history(engine, limit)
    table = Table("when (UTC)", Column("version", no_wrap=True), "by", "reason")
    for one in found:
        table.add_row(f"{one.moved_at:%Y-%m-%d %H:%M}", one.version, one.moved_by, one.reason)
    Console().print(table)


def list_models() -> None:
    """List the model versions, newest first."""
    from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion
    from rayonnage_shared.ml.bundles.manifest import BundleBroken, list_versions, read_manifest

    settings = ModelSettings()
    broken = []
    champion = None
    try:
        champion = read_champion(settings.models_path)
    except ChampionBroken as error:
        broken.append(error.detail)
    names = ("", "version", "text", "image", "F1\nweighted", "F1\nmacro", "ECE")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    for version in list_versions(settings.models_path):
        mark = "★" if champion and champion.version == version else ""
        try:
            manifest = read_manifest(settings.models_path, version)
        except BundleBroken as error:
            table.add_row(mark, version, "broken")
            broken.append(error.detail)
            continue
        table.add_row(
            mark,
            version,
            manifest.families.text or "–",
            manifest.families.image or "–",
            *(f"{manifest.metrics.get(name, float('nan')):.3f}" for name in ("f1_weighted", "f1_macro", "ece")),
        )
    Console().print(table)
    for detail in broken:
        console.print(detail, markup=False, highlight=False)


def predict(
    designation: Annotated[str | None, typer.Argument(help="Title of one product.")] = None,
    description: Annotated[str | None, typer.Option(help="Description of that product.")] = None,
    image: Annotated[Path | None, typer.Option(help="Photo of that product.", exists=True, dir_okay=False)] = None,
    catalogue: Annotated[
        Path | None, typer.Option("--csv", help="CSV of products to predict instead.", exists=True, dir_okay=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos for --csv.", exists=True, file_okay=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="CSV file for the predictions of --csv; default: standard output.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Model version; default: the champion.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=27, help="Number of categories to return.")] = 3,
) -> None:
    """Predict one product, or each row of a CSV, with the champion in this process."""
    from rayonnage_shared.ml.base.categories import load_categories
    from rayonnage_shared.ml.bundles.bundle import load_bundle
    from rayonnage_shared.predictions.inference import predict_catalogue, predict_product

    settings = ModelSettings()
    bundle = load_bundle(settings.models_path, version or _champion_version(settings.models_path))
    categories = load_categories(settings.categories_path)
    if catalogue is None:
        photo = image.read_bytes() if image else None
        timed = predict_product(bundle, categories, designation, description, photo, top_k=top_k)
        _print_json(timed.prediction.model_dump(mode="json"))
        return
    with _bar() as (bar, task), _rows_out(output) as write:
        for fraction, row in predict_catalogue(bundle, categories, catalogue, images):
            write(row)
            bar.update(task, completed=fraction, message=f"line {row['line']}")


def _champion_version(models_path: Path) -> str:
    from rayonnage_shared.ml.bundles.champion import read_champion
    from rayonnage_shared.ml.bundles.manifest import BundleNotFound

    champion = read_champion(models_path)
    if champion is None:
        raise BundleNotFound("There is no champion yet; run `rayonnage train`.")
    return champion.version


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@contextmanager
def _bar() -> Iterator[tuple[Progress, Any]]:
    columns = (TextColumn("{task.description:>9}"), BarColumn(), TimeElapsedColumn(), _MESSAGE)
    with Progress(*columns, console=console) as bar:
        yield bar, bar.add_task("working", total=1.0, message="")


@contextmanager
def _rows_out(output: Path | None) -> Iterator[Any]:
    file = output.open("w", newline="", encoding="utf-8") if output else sys.stdout
    writer: csv.DictWriter[str] | None = None

    def write(row: dict[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
        writer.writerow(row)

    try:
        yield write
    finally:
        if output:
            file.close()


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
