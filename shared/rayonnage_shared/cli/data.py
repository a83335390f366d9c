"""`rayonnage ingest | feedback | sample | datasets | categories`: the same functions as the services call."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from rayonnage_shared.cli.database import command_database
from rayonnage_shared.cli.sync import catch_up
from rayonnage_shared.core.settings import DatabaseSettings, StorageSettings
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.catalogue.schemas import IngestReport

if TYPE_CHECKING:
    from rayonnage_shared.ml.base.categories import Categories
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore

_SHOWN_REJECTS = 10

errors = Console(stderr=True)


class DataSettings(StorageSettings, DatabaseSettings):
    """Settings of these commands."""


def register(app: typer.Typer) -> None:
    """Add the data commands."""
    for command in (ingest, feedback, sample, datasets, categories):
        app.command()(command)


def ingest(
    features: Annotated[Path | None, typer.Argument(help="CSV of products.", exists=True, dir_okay=False)] = None,
    target: Annotated[
        Path | None,
        typer.Argument(
            help="CSV of labels; not needed if the products have a column `prdtypecode`.", exists=True, dir_okay=False
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Zip or folder of photos.", exists=True)] = None,
    allow_new_codes: Annotated[bool, typer.Option(help="Accept product type codes that are not known yet.")] = False,
    demo: Annotated[
        bool, typer.Option(help="Ingest into the demo data, which is never merged with real data.")
    ] = False,
    from_feedback: Annotated[
        bool,
        typer.Option("--from-feedback", help="Instead of a CSV, ingest the feedback that is not in a dataset yet."),
    ] = False,
) -> None:
    """Merge labelled products into the next dataset version."""
    from rayonnage_shared.ml.base.categories import load_categories
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore
    from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest as run

    settings = DataSettings()
    store, categories = DatasetStore(settings.data_path), load_categories(settings.categories_path)
    if from_feedback == (features is not None):
        raise typer.BadParameter("give either a CSV of products or --from-feedback")
    if from_feedback and (images or allow_new_codes or demo):
        raise typer.BadParameter("--from-feedback cannot be combined with other options")
    with progress_bar("ingest") as progress:
        if features is None:
            report = _ingest_feedback(settings, store, categories, progress)
        else:
            report = run(
                store,
                features,
                target,
                images,
                allow_new_codes=allow_new_codes,
                demo=demo,
                categories=categories,
                progress=progress,
            )
    _show(report, settings.data_path)
    if report.dataset_version is None and report.rows_total:
        raise typer.Exit(1)
    catch_up()


def feedback(
    prediction_id: Annotated[str, typer.Argument(help="The prediction_id from the response of /predict.")],
    category: Annotated[int, typer.Argument(help="The right product type code.")],
) -> None:
    """Report the right category of a prediction. The latest feedback wins."""
    from rayonnage_shared.feedback.schemas import FeedbackRequest
    from rayonnage_shared.feedback.service import FeedbackService
    from rayonnage_shared.ml.base.categories import load_categories

    request = FeedbackRequest(prediction_id=prediction_id.upper(), category_id=category)
    settings = DataSettings()
    service = FeedbackService(settings.models_path, load_categories(settings.categories_path))
    with command_database(settings) as engine:
        written, _ = service.write(engine, request, getpass.getuser())
    print(written.model_dump_json(indent=2))


def _ingest_feedback(
    settings: DataSettings, store: DatasetStore, categories: Categories, progress: Progress
) -> IngestReport:
    from rayonnage_shared.feedback.ingestion import ingest_feedback

    with command_database(settings) as engine:
        return ingest_feedback(store, engine, categories=categories, progress=progress)


def sample(
    folder: Annotated[Path, typer.Argument(help="Folder of the catalogue.")] = Path("data/sample"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same catalogue.")] = 20,
) -> None:
    """Generate a catalogue of invented products with drawn photos."""
    from rayonnage_shared.ml.catalogue.sample.generator import generate_sample

    with progress_bar("sample") as progress:
        generate_sample(folder, seed, progress)
    print(f"Wrote {folder}/features.csv, target.csv and images.zip.")


def datasets() -> None:
    """List the dataset versions, newest first."""
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore

    store = DatasetStore(StorageSettings().data_path)
    current = store.current()
    table = Table("", "version", "rows", "photos", "train", "test", "classes", "")
    found, broken = store.described()
    for one in reversed(found):
        counts = (one.rows, one.rows_with_image, one.rows_train, one.rows_test, len(one.classes))
        table.add_row("★" if one.version == current else "", one.version, *map(str, counts), "demo" if one.demo else "")
    Console().print(table)
    for detail in broken.values():
        errors.print(detail, markup=False, highlight=False)


def categories() -> None:
    """List the product type codes with their labels."""
    from rayonnage_shared.ml.base.categories import load_categories

    table = Table("code", "label")
    for code, label in load_categories(StorageSettings().categories_path).labelled():
        table.add_row(str(code), label)
    Console().print(table)


def _show(report: IngestReport, data_path: Path) -> None:
    for reject in report.rejects[:_SHOWN_REJECTS]:
        errors.print(f"line {reject.line}: {reject.reason}", markup=False, highlight=False)
    print(report.model_dump_json(indent=2, exclude={"rejects", "conflict_rows", "report_url"}))
    if report.rejects or report.conflict_rows:
        print(f"All rejected rows and conflicts: {data_path / 'ingests' / report.ingest_id / 'rejects.csv'}")


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs; yield the function that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[message]}"))
    with Bars(*columns, console=errors) as bars:
        task = bars.add_task(name, total=1.0, message="")
        yield lambda fraction, message: bars.update(task, completed=fraction, message=message)
