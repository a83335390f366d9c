"""`rayonnage lineage`: the provenance of a prediction, model or dataset, as a tree or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from rayonnage_shared.core.settings import DatabaseSettings, StorageSettings

if TYPE_CHECKING:
    from rayonnage_shared.ops.lineage import Answer, ChampionPeriod, Dataset, Lineage, Model

DATABASE_WAIT_S = 3
LONGEST_TEXT = 100
UNFOLDED = 4096


class LineageSettings(StorageSettings, DatabaseSettings):
    """Settings of this command."""


def register(app: typer.Typer) -> None:
    """Add the lineage command."""
    app.command()(lineage)


def lineage(
    name: Annotated[str, typer.Argument(help="A prediction_id, a model version or a dataset version.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Show provenance: prediction, bundle, MLflow run, dataset versions, code."""
    from rayonnage_shared.database.engine import open_database
    from rayonnage_shared.ops.lineage import Lineages

    settings = LineageSettings()
    engine = open_database(settings.database_url, wait_s=DATABASE_WAIT_S)
    try:
        found = Lineages(settings.models_path, settings.data_path, engine).trace(name)
    finally:
        engine.dispose()
    if as_json:
        print(json.dumps(dataclasses.asdict(found), default=datetime.isoformat, indent=2, ensure_ascii=False))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = UNFOLDED  # output to a file or pipe: lines are not wrapped
        console.print(_tree(found))


def _tree(found: Lineage) -> Tree:
    if found.answer is not None and found.model is not None:
        tree = _with_lines(Tree(_heading("prediction", found.answer.prediction_id)), _answer_lines(found.answer))
        _add_model(tree, found.model)
        return tree
    root = Tree("", hide_root=True)
    if found.model is not None:
        _add_model(root, found.model)
    if found.dataset is not None:
        _add_dataset(root, found.dataset)
        root.children[0].add(Text(f"models trained on it: {', '.join(found.trained) or 'none on this volume'}"))
    return root


def _answer_lines(answer: Answer) -> Iterator[str]:
    yield f"{_moment(answer.created_at)}, for {answer.username}, request {answer.request_id}"
    alone = [
        f"{modality} alone {guess.category_id} ({guess.probability:.1%})"
        for modality, guess in (("text", answer.text), ("photo", answer.image))
        if guess is not None
    ]
    prediction = (
        f"predicted {answer.category_id} ({answer.confidence:.1%}, {answer.decision}) in {answer.duration_ms:.1f} ms"
    )
    yield "; ".join([prediction, *alone])
    if truth := answer.feedback:
        where = f"in dataset {truth.ingested_in}" if truth.ingested_in else "in no dataset yet"
        yield f"feedback: {truth.category_id}, by {_plain(truth.username)} on {_moment(truth.given_at)}; {where}"
    if answer.product_identifier:
        yield f"product {_plain(answer.product_identifier)}"
    for name, text in (("designation", answer.designation), ("description", answer.description)):
        if text:
            yield f"{name}: {_plain(text)}"
    if answer.image_sha256:
        yield f"photo sha256 {answer.image_sha256}"


def _add_model(tree: Tree, model: Model, label: str = "model") -> None:
    branch = tree.add(_heading(label, model.version, "the champion" if model.champion else "", model.missing))
    provenance = model.provenance
    if provenance is not None:
        families = (f"{modality} {family}" for modality, family in provenance.families.items())
        branch.add(
            Text(
                f"{', '.join(families)}; created {_moment(provenance.created_at)} by {_plain(provenance.submitted_by)}"
            )
        )
        branch.add(
            Text(f"test split: {', '.join(f'{name} {value:.4g}' for name, value in provenance.metrics.items())}")
        )
        branch.add(Text(f"manifest sha256 {provenance.manifest_sha256}"))
    _with_lines(branch, _period_lines(model.champion_periods))
    run = model.run
    branch.add(
        Text(f"MLflow run {run.run_id}, registered version {run.registry_version} ({run.store})")
        if run
        else Text("MLflow run: not logged yet; run `rayonnage sync`")
    )
    if provenance is None:
        return
    _add_dataset(branch, provenance.dataset)
    branch.add(Text(f"code {provenance.code_version}")).add(
        Text(", ".join(f"{name} {version}" for name, version in provenance.libraries.items()))
    )
    if provenance.base is not None:
        _add_model(branch, provenance.base, "kept a model of")


def _period_lines(champion_periods: tuple[ChampionPeriod, ...] | None) -> Iterator[str]:
    if champion_periods is None:
        yield "champion: unknown, the database cannot be read"
    elif not champion_periods:
        yield "never the champion"
    for period in champion_periods or ():
        until = f" until {_moment(period.until)}" if period.until else ""
        yield f"champion from {_moment(period.since)}{until}, by {_plain(period.moved_by)}: {_plain(period.reason)}"


def _add_dataset(tree: Tree, dataset: Dataset, label: str = "dataset") -> None:
    demo = "the demo catalogue" if dataset.demo else ""
    branch = tree.add(_heading(label, dataset.version, demo, dataset.missing))
    if dataset.sha256:
        branch.add(Text(f"products sha256 {dataset.sha256}"))
    if dataset.created_at:
        branch.add(
            Text(
                f"{dataset.rows:,} rows, {dataset.rows_with_image:,} with a photo; "
                f"{_moment(dataset.created_at)} by ingest {dataset.ingest_id}"
            )
        )
    if dataset.parent is not None:
        _add_dataset(branch, dataset.parent, "grown from dataset")


def _heading(label: str, name: str, *remarks: str | None) -> Text:
    heading = Text(f"{label} ").append(name, style="bold")
    for remark in filter(None, remarks):
        heading.append(f" – {_plain(remark)}", style="yellow")
    return heading


def _with_lines(tree: Tree, lines: Iterator[str]) -> Tree:
    for line in lines:
        tree.add(Text(line))
    return tree


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(text: str) -> str:
    """Return text on one line without control characters, which callers may have sent."""
    line = "".join(sign if sign.isprintable() else " " for sign in text[: LONGEST_TEXT + 1])
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}…"
