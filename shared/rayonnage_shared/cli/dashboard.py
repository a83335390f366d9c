"""`rayonnage dashboard`: the platform's state in the terminal, refreshed every two seconds."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from rayonnage_shared.cli.dashboard_panels import drawn
from rayonnage_shared.ops.env_file import effective
from rayonnage_shared.ops.platform_state import DashboardSettings, Watcher

HOME = Path()
SECOND_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(dashboard)


def dashboard(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between refreshes.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the state once and exit; the default without a terminal.")
    ] = False,
) -> None:
    """Show services, champion, jobs, traffic and drift, live, until Ctrl-C. Read-only."""
    console = Console()
    with closing(Watcher(HOME, effective(HOME), DashboardSettings())) as watcher:
        try:
            if once or not console.is_terminal:
                watcher.look()
                time.sleep(SECOND_LOOK_S)  # rates cover the time between two refreshes
                console.print(drawn(watcher.look(), console.width))
            else:
                _follow(console, watcher, every)
        except KeyboardInterrupt:
            pass


def _follow(console: Console, watcher: Watcher, every_s: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            began = time.monotonic()
            live.update(drawn(watcher.look(), console.width), refresh=True)
            time.sleep(max(0.1, every_s - (time.monotonic() - began)))
