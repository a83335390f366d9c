"""The panel types of the dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = kinds.DataSourceRef(type_val="prometheus", uid="prometheus")
"""The data source that deployments/grafana/provisioning/datasources defines."""

WIDTH = 24  # of Grafana's grid
GOOD, WARNING, BAD = "green", "orange", "red"
Panel = Builder[model.Panel]
Steps = Sequence[tuple[float | None, str]]
"""Lower bounds of colours; the first is None, for minus infinity."""


@dataclass(frozen=True)
class Query:
    """A PromQL query and the legend of its series: `{{label}}`."""

    expr: str
    legend: str = ""


class _Common(Protocol):
    """The builder interface of all panel types."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: kinds.DataSourceRef) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def with_target(self, target: prometheus.Dataquery) -> Self: ...


P = TypeVar("P", bound=_Common)


def lines(
    title: str,
    why: str,
    *queries: Query,
    unit: str,
    width: int = 8,
    most: float | None = None,
    steps: Steps = (),
    stacked: kinds.StackingMode | None = None,
) -> Panel:
    """Return a time series panel; `steps` are dashed lines, `most` is the upper end of the axis."""
    panel = _with(timeseries.Panel(), title, why, queries, width=width, height=8)
    panel.unit(unit).min(0).line_width(2).show_points(kinds.VisibilityMode.AUTO)
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(kinds.LegendDisplayMode.TABLE)
        .placement(kinds.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    if most is not None:
        panel.max(most)
    if stacked is not None:
        panel.fill_opacity(40).line_width(1).stacking(common.StackingConfig().mode(stacked).group("A"))
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    return panel


def number(
    title: str,
    why: str,
    *queries: Query,
    unit: str,
    width: int = 4,
    steps: Steps = ((None, "text"),),
    words: Mapping[str, tuple[str, str]] | None = None,
    curve: bool = True,
    instant: bool = False,
) -> Panel:
    """Return a stat panel with the latest value of each series; `words` replace values by coloured text.

    `instant` queries only the latest value, for queries over such long periods that a curve would be expensive.
    """
    panel = _with(stat.Panel(), title, why, queries, width=width, height=5, instant=instant)
    panel.unit(unit).thresholds(_thresholds(steps)).color_mode(kinds.BigValueColorMode.VALUE)
    panel.graph_mode(kinds.BigValueGraphMode.AREA if curve and not instant else kinds.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.text_mode(kinds.BigValueTextMode.AUTO)
    if words is not None:
        results = {
            value: model.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(words.items())
        }
        panel.mappings([model.ValueMap(options=results)])
    return panel


def name(title: str, why: str, query: Query, *, width: int = 6) -> Panel:
    """Return a stat panel that shows the labels of an info metric."""
    panel = _with(stat.Panel(), title, why, [query], width=width, height=5, instant=True)
    panel.text_mode(kinds.BigValueTextMode.NAME).graph_mode(kinds.BigValueGraphMode.NONE)
    panel.color_mode(kinds.BigValueColorMode.NONE).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel


def bars(
    title: str, why: str, query: Query, *, unit: str, width: int = 8, most: float | None = None, steps: Steps = ()
) -> Panel:
    """Return a bar gauge with one bar per series, for the latest value or the whole time range."""
    panel = _with(bargauge.Panel(), title, why, [query], width=width, height=8, instant=True)
    panel.unit(unit).min(0).orientation(kinds.VizOrientation.HORIZONTAL)
    panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).show_unfilled(True)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if most is not None:
        panel.max(most)
    panel.thresholds(_thresholds(steps or ((None, "blue"),)))
    return panel


def rows(title: str, why: str, query: Query, *, columns: Mapping[str, str], unit: str, width: int = 12) -> Panel:
    """Return a table of the current series: the given labels, in order, with headings, and the value."""
    panel = _with(table.Panel(), title, why, [query], width=width, height=8, instant=True, as_table=True)
    shown = [*columns, "Value"]
    panel.transformations(
        [
            model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": shown}}),
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "indexByName": {label: place for place, label in enumerate(shown)},
                    "renameByName": dict(columns),
                },
            ),
        ]
    )
    panel.override_by_name("Value", [model.DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def cloud(title: str, why: str, query: Query, *, unit: str, width: int = 8) -> Panel:
    """Return a heat map of a Prometheus histogram."""
    panel = _with(heatmap.Panel(), title, why, [query], width=width, height=8, buckets=True)
    panel.calculate(False).color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
    panel.unit("short").y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1)
    return panel


def variable(label: str, query: str, *, name: str) -> Builder[model.VariableModel]:
    """Return a dashboard variable with multiple selection; all values are selected by default."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"qryType": _LABEL_VALUES, "query": query, "refId": _VARIABLE_REF})
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def page(
    title: str,
    about: str,
    *,
    uid: str,
    choices: Sequence[Builder[model.VariableModel]] = (),
    sections: Mapping[str, Sequence[Panel]],
    hours: int = 6,
) -> model.Dashboard:
    """Return a dashboard: rows of panels, and links to the other dashboards."""
    page = dashboard.Dashboard(title).uid(uid).description(about).tags([TAG]).readonly().refresh("30s")
    page.time(f"now-{hours}h", "now").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    page.link(
        dashboard.DashboardLink("Rayonnage")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .keep_time(True)
    )
    page.annotation(
        dashboard.AnnotationQuery()
        .name("Promotions")
        .datasource(DATASOURCE)
        .expr(PROMOTIONS)
        .enable(True)
        .hide(False)
        .icon_color("blue")
    )
    for choice in choices:
        page.with_variable(choice)
    next_id = 1
    for section, panels in sections.items():
        page.with_row(dashboard.Row(section).id(next_id))
        next_id += 1
        for panel in panels:
            panel.build().id_val = next_id
            page.with_panel(panel)
            next_id += 1
    return page.build()


TAG = "rayonnage"
_LABEL_VALUES, _VARIABLE_REF = 1, "PrometheusVariableQueryEditor-VariableQuery"  # as Grafana's own editor writes them
_CHAMPIONS = "max by (version, family) (rayonnage_champion_info"
PROMOTIONS = f"{_CHAMPIONS}) unless {_CHAMPIONS} offset 1m)"
"""A version in its first minute; drawn as a dashed vertical line in every panel."""


def _with(
    panel: P,
    title: str,
    why: str,
    queries: Sequence[Query],
    *,
    width: int,
    height: int,
    instant: bool = False,
    as_table: bool = False,
    buckets: bool = False,
) -> P:
    panel.title(title).description(why).datasource(DATASOURCE).span(width).height(height)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).datasource(DATASOURCE)
        target.legend_format(query.legend or "__auto")
        if instant:
            target.instant()
        else:
            target.range()
        if as_table:
            target.format(PromQueryFormat.TABLE)
        if buckets:
            target.format(PromQueryFormat.HEATMAP)
        panel.with_target(target)
    return panel


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )
