"""`rayonnage data`: the stages from raw files to training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rayonnage_shared.cli.data import progress_bar
from rayonnage_shared.cli.sync import catch_up
from rayonnage_shared.pipelines.data.settings import DataStageSettings

if TYPE_CHECKING:
    from rayonnage_shared.ml.catalogue.schemas import IngestReport

Source = Annotated[
    str | None, typer.Argument(help="Addresses (http, https or s3) separated by spaces; default: DATASET_URL.")
]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of each category in the first training file.")]
NewCodes = Annotated[bool, typer.Option(help="Accept product type codes that are not known yet.")]


def register(app: typer.Typer) -> None:
    """Add the data stages."""
    data = typer.Typer(no_args_is_help=True, help="Prepare training data from raw files, stage by stage.")
    for command in (download, check, seed, preprocess, transform, build):
        data.command()(command)
    app.add_typer(data, name="data")


def download(source: Source = None) -> None:
    """Download the raw files into data/raw."""
    from rayonnage_shared.pipelines.data.download import download as run

    with progress_bar("download") as progress:
        files = run(DataStageSettings(), source, progress)
    for path in files:
        print(f"{path}: {path.stat().st_size:,} bytes")


def check() -> None:
    """Check the raw files' structure, columns and photos; write data/interim/check.json. Exits with 1 on problems."""
    from rayonnage_shared.pipelines.data.raw_files import check_raw

    settings = DataStageSettings()
    report = check_raw(settings.raw_path, settings.interim_path)
    print(report.model_dump_json(indent=2))
    if report.problems:
        raise typer.Exit(1)


def seed(
    share: Share = 1.0, random_seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 20
) -> None:
    """Split the raw products into data/interim/rakuten_train.csv and data/interim/rakuten_rest.csv."""
    from rayonnage_shared.pipelines.data.seed import seed as run

    settings = DataStageSettings()
    seeded = run(settings.raw_path, settings.interim_path, share=share, random_seed=random_seed)
    print(f"{seeded.first}: {seeded.first_rows} rows\n{seeded.rest}: {seeded.rest_rows} rows")


def preprocess(allow_new_codes: NewCodes = False) -> None:
    """Clean, validate and split data/interim/rakuten_train.csv into the next dataset version, data/datasets/VERSION."""
    report = _preprocess(DataStageSettings(), allow_new_codes=allow_new_codes)
    print(report.model_dump_json(indent=2, exclude={"rejects", "conflict_rows", "report_url"}))
    if report.dataset_version is None:
        raise typer.Exit(1)
    catch_up()


def transform(
    version: Annotated[str | None, typer.Argument(help="Dataset version; default: the current one.")] = None,
) -> None:
    """Write a dataset version as cleaned tables and TF-IDF features to data/processed/VERSION."""
    _transform(DataStageSettings(), version)


def build(source: Source = None, share: Share = 1.0, allow_new_codes: NewCodes = False) -> None:
    """Run all stages. Without an address and DATASET_URL, the files already in data/raw are used."""
    settings = DataStageSettings()
    if source or settings.dataset_url:
        download(source)
    check()
    seed(share)
    preprocess(allow_new_codes)
    transform()


def _preprocess(settings: DataStageSettings, *, allow_new_codes: bool) -> IngestReport:
    from rayonnage_shared.ml.base.categories import load_categories
    from rayonnage_shared.ml.catalogue.datasets import DatasetStore
    from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
    from rayonnage_shared.ml.catalogue.ingestion.table import UnreadableTable
    from rayonnage_shared.pipelines.data.raw_files import find_raw_files
    from rayonnage_shared.pipelines.data.seed import SEED_NAME

    features = settings.interim_path / SEED_NAME
    if not features.is_file():
        raise UnreadableTable(f"There is no {features}; run `rayonnage data seed` first.")
    with progress_bar("preprocess") as progress:
        return ingest(
            DatasetStore(settings.data_path),
            features,
            None,
            find_raw_files(settings.raw_path).images,
            allow_new_codes=allow_new_codes,
            categories=load_categories(settings.categories_path),
            progress=progress,
        )


def _transform(settings: DataStageSettings, version: str | None) -> None:
    from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
    from rayonnage_shared.pipelines.data.transform import transform as run

    store = DatasetStore(settings.data_path)
    chosen = version or store.current()
    if chosen is None:
        raise DatasetNotFound("There is no dataset yet; run `rayonnage data preprocess` first.")
    with progress_bar("transform") as progress:
        folder = run(store, chosen, progress)
    print(folder)
