"""`rayonnage ingest | sample | datasets`: labelled products in, by the functions that the ingest service uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from rayonnage_shared.cli.tracking import catch_up
from rayonnage_shared.contracts.datasets import IngestReport
from rayonnage_shared.ml.progress import Progress
from rayonnage_shared.settings import StorageSettings

_SHOWN_REJECTS = 10

errors = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Add the commands about data to the command line."""
    for command in (ingest, sample, datasets):
        app.command()(command)


def ingest(
    features: Annotated[Path, typer.Argument(help="CSV of products.", exists=True, dir_okay=False)],
    target: Annotated[
        Path | None,
        typer.Argument(help="CSV of labels; not needed with a column `prdtypecode`.", exists=True, dir_okay=False),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Zip or folder of photos.", exists=True)] = None,
    allow_new_codes: Annotated[bool, typer.Option(help="Let codes in that are not known yet.")] = False,
    demo: Annotated[bool, typer.Option(help="Into the demo data, which real data is never merged with.")] = False,
) -> None:
    """Merge labelled products into the next dataset version."""
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore
    from rayonnage_shared.ml.catalogue.ingestion import ingest as run
    from rayonnage_shared.ml.categories import load_categories

    settings = StorageSettings()
    with _bar("ingest") as progress:
        report = run(
            DatasetStore(settings.data_path),
            features,
            target,
            images,
            allow_new_codes=allow_new_codes,
            demo=demo,
            categories=load_categories(settings.categories_path),
            progress=progress,
        )
    _show(report, settings.data_path)
    if report.dataset_version is None:
        raise typer.Exit(1)
    catch_up()


def sample(
    folder: Annotated[Path, typer.Argument(help="Where the catalogue goes.")] = Path("data/sample"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same catalogue.")] = 20,
) -> None:
    """Generate a catalogue of invented products with drawn photos."""
    from rayonnage_shared.ml.catalogue.sample import generate_sample

    with _bar("sample") as progress:
        generate_sample(folder, seed, progress)
    print(f"{folder}/features.csv, target.csv and images.zip are there.")


def datasets() -> None:
    """List the dataset versions, newest first."""
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore

    store = DatasetStore(StorageSettings().data_path)
    current = store.current()
    table = Table("", "version", "rows", "photos", "train", "test", "classes", "")
    for version in reversed(store.versions()):
        found = store.describe(version)
        counts = (found.rows, found.rows_with_image, found.rows_train, found.rows_test, len(found.classes))
        table.add_row("★" if version == current else "", version, *map(str, counts), "demo" if found.demo else "")
    Console().print(table)


def _show(report: IngestReport, data_path: Path) -> None:
    for reject in report.rejects[:_SHOWN_REJECTS]:
        errors.print(f"line {reject.line}: {reject.reason}", markup=False, highlight=False)
    print(report.model_dump_json(indent=2, exclude={"rejects", "conflict_rows", "report_url"}))
    if report.rejects or report.conflict_rows:
        print(f"All refused rows and conflicts: {data_path / 'ingests' / report.ingest_id / 'rejects.csv'}")


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[message]}"))
    with Bars(*columns, console=errors) as bars:
        task = bars.add_task(name, total=1.0, message="")
        yield lambda fraction, message: bars.update(task, completed=fraction, message=message)
