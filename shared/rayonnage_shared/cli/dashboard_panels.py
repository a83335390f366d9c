"""Render the platform's state for a terminal: two columns of panels, or one in a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from rayonnage_shared.cli.report_tables import share
from rayonnage_shared.drift.schemas import DriftReport
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ops.platform_state import ChampionState, LogState, Picture, ServiceState, Traffic

TWO_COLUMNS_FROM = 116
COLUMNS_OF_DRIFT_SHOWN = 4
_COLOURS = {"running": "cyan", "queued": "yellow", "failed": "red", "succeeded": "green", "cancelled": "dim"}
_NOTHING = Text("–", style="dim")


def drawn(picture: Picture, width: int) -> RenderableType:
    """Return all panels for a terminal `width` characters wide."""
    services = _panel("services", _services(picture.services))
    jobs = _panel("jobs", _unreadable(picture, "jobs") or _jobs(picture.jobs, picture.at))
    champion = _panel("champion", _unreadable(picture, "champion") or _champion(picture.champion, picture.at))
    traffic = _panel("traffic", _traffic(picture.traffic))
    drift = _panel("drift", _unreadable(picture, "drift") or _drift(picture.drift, picture.at))
    log = _panel("prediction log", _log(picture.log))
    if width < TWO_COLUMNS_FROM:
        return Group(_head(picture), services, champion, traffic, jobs, drift, log)
    columns = Table.grid(expand=True, padding=0)
    columns.add_column(ratio=1)
    columns.add_column(ratio=1)
    columns.add_row(Group(services, jobs), Group(champion, traffic, drift, log))
    return Group(_head(picture), columns)


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", box=ROUNDED, border_style="dim", padding=(0, 1))


def _head(picture: Picture) -> Text:
    down = [one.name for one in picture.services if one.trouble]
    if not down:
        verdict = Text("all processes are ready", style="green")
    else:
        verdict = Text(f"not ready: {', '.join(down)}", style="bold red")
    return Text.assemble(
        ("Rayonnage", "bold"), f"  {picture.at.astimezone():%Y-%m-%d %H:%M:%S}  ", verdict, overflow="ellipsis"
    )


def _unreadable(picture: Picture, part: str) -> Text | None:
    trouble = picture.troubles.get(part)
    return Text(f"cannot be read: {trouble}", style="red", overflow="ellipsis") if trouble else None


def _services(services: Sequence[ServiceState]) -> Group:
    """Return the table, and below it why a process is not ready, in full."""
    troubles = [Text(f"{one.name}: {one.trouble}", style="red") for one in services if one.trouble]
    return Group(_service_table(services), *troubles)


def _service_table(services: Iterable[ServiceState]) -> Table:
    table = Table(
        Column("", no_wrap=True, min_width=8),
        Column("ready", ratio=1),
        Column("pid", justify="right", no_wrap=True),
        Column("up", justify="right", no_wrap=True),
        Column("memory", justify="right", no_wrap=True),
        Column("restarts", justify="right", no_wrap=True),
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for one in services:
        name = f"{one.name} ×{one.replicas}" if one.replicas > 1 else one.name
        table.add_row(
            name,
            Text("no", style="bold red") if one.trouble else Text("yes", style="green"),
            str(one.pid) if one.pid else _NOTHING,
            _lasting(one.uptime) if one.uptime is not None else _NOTHING,
            _megabytes(one.memory_bytes),
            _NOTHING if one.restarts is None else Text(str(one.restarts), style="yellow" if one.restarts else ""),
        )
    return table


def _champion(champion: ChampionState | None, now: datetime) -> RenderableType:
    if champion is None:
        return Text("none: train a first model (rayonnage train, or POST /train)", style="yellow")
    facts = _facts()
    facts.add_row("version", escape(champion.version))
    facts.add_row("families", escape(champion.families))
    if champion.trained_at is not None:
        facts.add_row("trained", f"{_lasting(now - champion.trained_at)} ago")
    facts.add_row("test F1", f"macro {share(champion.f1_macro)}, weighted {share(champion.f1_weighted)}")
    if champion.served and champion.served != {champion.version}:
        facts.add_row("[yellow]predict serves[/]", f"[yellow]{escape(', '.join(sorted(champion.served)))}[/]")
    return facts


def _traffic(traffic: Traffic | None) -> RenderableType:
    if traffic is None:
        return Text("computed after the next refresh", style="dim")
    facts = _facts()
    facts.add_row("requests", f"{_per_second(traffic.requests_per_s)} at the gateway")
    facts.add_row("refused (429)", _per_second(traffic.refused_per_s))
    failed = _per_second(traffic.failed_per_s)
    facts.add_row("errors (5xx)", f"[red]{failed}[/]" if traffic.failed_per_s else failed)
    accepted = "" if traffic.accepted is None else f", {traffic.accepted:.0%} accepted"
    facts.add_row("predictions", f"{_per_second(traffic.predictions_per_s)}{accepted}")
    facts.add_row("POST /predict", f"p50 {_milliseconds(traffic.p50_s)}, p99 {_milliseconds(traffic.p99_s)}")
    facts.add_row("in progress", "–" if traffic.in_flight is None else f"{traffic.in_flight:.0f}")
    facts.add_row("", f"[dim]over the last {traffic.over_s:.0f} s[/]")
    return facts


def _jobs(jobs: Iterable[Job], now: datetime) -> RenderableType:
    table = Table(
        Column("job", no_wrap=True, overflow="ellipsis"),
        Column("kind", no_wrap=True),
        Column("state", no_wrap=True),
        Column("when", no_wrap=True),
        Column("what", ratio=1),
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for job in jobs:
        state = f"running {job.progress:.0%}" if job.status == "running" else job.status
        table.add_row(
            job.job_id[-6:],
            Text(job.kind),
            Text(state, style=_COLOURS.get(job.status, "")),
            f"{_lasting(now - (job.finished_at or job.started_at or job.submitted_at))} ago",
            Text(job.error or job.message or job.stage or "", style="red" if job.error else ""),
        )
    return table if table.row_count else Text("none yet", style="dim")


def _drift(report: DriftReport | None, now: datetime) -> RenderableType:
    if report is None:
        return Text("no report yet (make monitor, or POST /drift)", style="dim")
    facts = _facts()
    facts.add_row("report", f"{escape(report.id)}, {_lasting(now - report.created_at)} ago")
    facts.add_row("rows", f"{report.current_rows} against {report.reference_rows}")
    alarms = [column.name for column in report.columns if column.drift]
    if not report.enough_rows:
        facts.add_row("columns", "[yellow]too few rows to decide[/]")
    elif alarms:
        facts.add_row("columns", f"[bold red]ALARM: {escape(', '.join(alarms))}[/]")
    else:
        facts.add_row("columns", "[green]no alarm[/]")
    measured = [
        (column.distance / column.threshold, column) for column in report.columns if column.distance is not None
    ]
    for ratio, column in sorted(measured, key=lambda one: -one[0])[:COLUMNS_OF_DRIFT_SHOWN]:
        facts.add_row(escape(column.name), f"{ratio:.1f} × the threshold")
    if report.performance is not None:
        feedback = report.performance
        accuracy = f"{share(feedback.accuracy)} right of {feedback.labelled}"
        words = f"{accuracy}, {share(feedback.expected_accuracy)} on the test split"
        facts.add_row("feedback", f"[bold red]{words}[/]" if feedback.alarm else words)
    if report.decision is not None:
        facts.add_row("decision", escape(report.decision.reason))
    return facts


def _log(log: LogState | None) -> RenderableType:
    if log is None:
        return Text("predict does not answer", style="dim")
    lost = f"[bold red]{log.dropped:.0f} lost[/]" if log.dropped else "0 lost"
    return Text.from_markup(f"{log.written:.0f} written, {log.waiting:.0f} waiting, {lost}, since predict started")


def _facts() -> Table:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    return facts


def _lasting(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for size, unit, small, small_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {small_unit}"
    return f"{seconds} s"


def _megabytes(count: float | None) -> RenderableType:
    return _NOTHING if count is None else f"{count / 1e6:.0f} MB"


def _per_second(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}/s"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.0f} ms"
