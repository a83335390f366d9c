"""Plots of a bundle's evaluation: small PNG files in `figures/`, with the same bytes for the same report.

Labels are French, as the catalogue managers who read them are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray, known_rows
from rayonnage_shared.ml.calibration.thresholds import Mode
from rayonnage_shared.ml.evaluation.plot_files import PLOTS_FOLDER
from rayonnage_shared.ml.evaluation.schemas import BundleMetrics, EvaluationReport, LearningCurve, SelectiveReport

_DPI = 100
_MODES: dict[Mode, tuple[str, str]] = {
    "text": ("texte seul", "#1f6fb4"),
    "image": ("photo seule", "#d1762b"),
    "both": ("texte et photo", "#2d8a4e"),
}
_MODALITIES = {"text": "texte", "image": "photo", "fusion": "fusion"}
_CURVES = {"f1_weighted": "F1 pondéré", "f1_macro": "F1 macro", "accuracy": "exactitude", "loss": "perte"}
_WRITTEN_FROM = 0.005
"""Smallest share of a category whose count is printed in the matrix; more numbers would be unreadable."""
_SMOOTH_FROM = 10
"""Fewest rows for which a precision is drawn; that of the first few rows is noise."""


def draw_plots(report: EvaluationReport, tables: Mapping[Mode, FloatArray], truth: IntArray, bundle: Path) -> None:
    """Write `confusion`, `calibration`, `classes`, `selective` and a `learning_<modality>` for each that has curves.

    `tables` (n, n_classes) are the probabilities by mode on the rows of the report's test split, NaN where a row lacks
    a modality, and `truth` (n,) their classes.
    """
    folder = bundle / PLOTS_FOLDER
    folder.mkdir(exist_ok=True)
    _confusion(report.test, folder / "confusion.png")
    _calibration(report.test, folder / "calibration.png")
    _classes(report.test, folder / "classes.png")
    _selective(report.selective.test, tables, truth, folder / "selective.png")
    for modality in dict.fromkeys(curve.modality for curve in report.curves):
        curves = [curve for curve in report.curves if curve.modality == modality]
        _learning(modality, curves, folder / f"learning_{modality}.png")


def _confusion(test: BundleMetrics, path: Path) -> None:
    labels = {one.code: one.label for one in test.classes}
    shown = [position for position, code in enumerate(test.codes) if code in labels]
    counts = np.array(test.confusion)[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.26 * len(shown))
    figure, axes = _figure(side + 4.5, side + 1.2, left=3.2, right=1.3, bottom=0.75)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(shown))
    axes.set_xticks(ticks, [str(test.codes[position]) for position in shown], rotation=90, fontsize=8)
    names = [f"{_short(labels[test.codes[position]])} · {test.codes[position]}" for position in shown]
    axes.set_yticks(ticks, names, fontsize=8)
    for row, column in zip(*np.nonzero(shares >= _WRITTEN_FROM), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "#22313f"
        size = 6 if counts[row, column] < 1000 else 5
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("catégorie prédite (code)")
    axes.set_ylabel("catégorie réelle")
    axes.set_title(f"Matrice de confusion : {_rows(test.rows)} de test", fontsize=11)
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0.2, 0.025, 0.6)), format=_percent())
    bar.set_label("part de la catégorie réelle")
    _save(figure, path)


def _calibration(test: BundleMetrics, path: Path) -> None:
    figure, (upper, lower) = _figure(5.6, 6.0, rows=2, height_ratios=(3, 1), right=0.3)
    bins = [one for one in test.calibration if one.rows]
    upper.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1, label="calibration parfaite")
    confidence, accuracy = [one.confidence for one in bins], [one.accuracy for one in bins]
    upper.plot(confidence, accuracy, marker="o", color=_MODES["both"][1], label="modèle")
    upper.set(xlim=(0, 1), ylim=(-0.04, 1.04), ylabel="exactitude observée")
    upper.set_title(
        f"Calibration : erreur moyenne (ECE) {_number(test.ece, 3)}, {_rows(test.rows)} de test", fontsize=11
    )
    upper.legend(loc="lower right", frameon=False)
    width = 1 / len(test.calibration)
    middles = [(index + 0.5) * width for index in range(len(test.calibration))]
    bars = lower.bar(middles, [one.rows for one in test.calibration], width=0.9 * width, color="#8fb8d8")
    lower.bar_label(bars, fontsize=7, padding=1)
    lower.margins(y=0.25)
    lower.set(xlim=(0, 1), xlabel="confiance annoncée", ylabel="lignes")
    for axes in (upper, lower):
        axes.xaxis.set_major_formatter(_percent())
    upper.yaxis.set_major_formatter(_percent())
    _save(figure, path)


def _classes(test: BundleMetrics, path: Path) -> None:
    ordered = sorted(test.classes, key=lambda one: (one.f1, one.code))
    figure, axes = _figure(8.4, 1.2 + 0.24 * len(ordered), left=2.9)
    positions = range(len(ordered))
    axes.barh(positions, [one.f1 for one in ordered], color="#1f6fb4", height=0.72)
    for position, one in zip(positions, ordered, strict=True):
        axes.text(1.015, position, f"{_number(one.f1, 2)}  ({one.rows})", va="center", fontsize=7)
    axes.set_yticks(positions, [f"{_short(one.label)} · {one.code}" for one in ordered], fontsize=8)
    axes.set(xlim=(0, 1.16), ylim=(-0.6, len(ordered) - 0.4), xlabel="F1 (entre parenthèses : lignes de test)")
    axes.set_xticks(np.linspace(0, 1, 6), [_number(tick, 1) for tick in np.linspace(0, 1, 6)])
    axes.axvline(test.f1_macro, color="#c0392b", linestyle="--", linewidth=1)
    axes.set_title(
        f"F1 par catégorie : macro {_number(test.f1_macro, 3)} (trait), pondéré {_number(test.f1_weighted, 3)}",
        fontsize=11,
    )
    _save(figure, path)


def _selective(
    promises: Sequence[SelectiveReport], tables: Mapping[Mode, FloatArray], truth: IntArray, path: Path
) -> None:
    figure, axes = _figure(7.0, 4.8, right=0.3)
    lowest = 1.0
    for mode, table in tables.items():
        label, colour = _MODES[mode]
        known = known_rows(table)
        if not known.any():
            continue
        coverage, precision = _precision_by_coverage(table[known], truth[known])
        axes.plot(coverage, precision, color=colour, label=f"{label} ({_rows(int(known.sum()))})")
        lowest = min(lowest, float(precision.min()))
        for one in promises:
            if one.mode == mode and one.precision is not None:
                axes.plot(one.coverage, one.precision, marker="o", color=colour, markersize=7, markeredgecolor="white")
                axes.annotate(
                    _percent()(one.promised, 0),
                    (one.coverage, one.precision),
                    xytext=(0, 8),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color=colour,
                    bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
                )
                lowest = min(lowest, one.precision)
    axes.set(xlim=(-0.03, 1.01), ylim=(max(0.0, lowest - 0.05), 1.04), xlabel="part acceptée sans relecture")
    axes.set_ylabel("précision de ce qui est accepté")
    axes.set_title("Précision selon la part acceptée (points : seuils pour la précision promise)", fontsize=10)
    axes.xaxis.set_major_formatter(_percent())
    axes.yaxis.set_major_formatter(_percent())
    axes.grid(color="#e5e5e5")
    axes.legend(loc="lower left", frameon=False)
    _save(figure, path)


def _precision_by_coverage(table: FloatArray, truth: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return shares of the rows, most confident first, and the precision within each; 400 points are enough to see."""
    order = np.argsort(-table.max(axis=1), kind="stable")
    counts = np.arange(1, len(order) + 1)
    precision = np.cumsum((table.argmax(axis=1) == truth)[order]) / counts
    first = min(_SMOOTH_FROM, len(order)) - 1
    chosen = np.unique(np.linspace(first, len(order) - 1, 400).astype(np.int64))
    return (counts[chosen] / len(order)).astype(np.float32), precision[chosen].astype(np.float32)


def _learning(modality: str, curves: Sequence[LearningCurve], path: Path) -> None:
    figure, panels = _figure(4.8 * len(curves), 4.0, columns=len(curves))
    for axes, curve in zip(np.atleast_1d(panels), curves, strict=True):
        for values, label, colour in (
            (curve.train, "lignes apprises", "#8a8a8a"),
            (curve.held_out, "lignes mises de côté", "#1f6fb4"),
        ):
            heights = [np.nan if value is None else value for value in values]
            axes.plot(curve.x, heights, marker="o", markersize=4, color=colour, label=label)
        axes.set_xlabel("époques" if curve.axis == "epochs" else "lignes d'apprentissage")
        axes.set_ylabel(_CURVES.get(curve.figure, curve.figure))
        if curve.axis == "rows":
            axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.yaxis.set_major_formatter(_decimal_comma())
        axes.grid(color="#e5e5e5")
        axes.legend(frameon=False)
    figure.suptitle(f"Courbe d'apprentissage : {_MODALITIES.get(modality, modality)}", fontsize=11)
    _save(figure, path)


def _figure(
    width: float,
    height: float,
    *,
    rows: int = 1,
    columns: int = 1,
    height_ratios: Sequence[float] | None = None,
    left: float = 0.85,
    right: float = 0.15,
    bottom: float = 0.6,
) -> tuple[Any, Any]:
    """Return a figure and its axes, all lengths in inches; it belongs to the caller alone, as pyplot's do not.

    Margins are given since measuring texts to find them takes three times as long as drawing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    margins = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - 0.4 / height}
    return figure, figure.subplots(rows, columns, gridspec_kw={**margins, "height_ratios": height_ratios})


def _save(figure: Any, path: Path) -> None:
    from PIL import Image

    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    # A palette reduces the size to a third; without metadata the same report gives the same bytes.
    drawn.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, "PNG")


def _percent() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _position: f"{100 * value:.0f} %")


def _decimal_comma() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _position: f"{value:.4g}".replace(".", ","))


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=8)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace(".", ",")


def _rows(count: int) -> str:
    return f"{count:,} {'lignes' if count > 1 else 'ligne'}".replace(",", "\u202f")


def _short(label: str) -> str:
    name = label.rpartition(" > ")[2]
    return name if len(name) <= 36 else f"{name[:35]}…"
