"""`rayonnage up | stop | status | logs | env-example`: run the platform on this machine; called by `make`."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rayonnage_shared.ops import local
from rayonnage_shared.ops.env_file import effective
from rayonnage_shared.ops.log_following import LogFollower
from rayonnage_shared.ops.log_search import find_request, log_files, parse_event
from rayonnage_shared.ops.run_lock import holder
from rayonnage_shared.ops.settings_catalogue import env_example
from rayonnage_shared.ops.supervision import ProcessState, Supervisor

HOME = Path()
_SAMPLE = Path("data/sample")
_STEPS = {
    "pull": "Pulling the champion and the current dataset",
    "sample": "Generating the sample catalogue",
    "ingest": "Ingesting the sample catalogue",
    "text": "Training the text model",
    "image": "Training the photo model",
    "fusion": "Combining both models",
    "evaluate": "Evaluating the result",
}
"""What is said about the stages of the preparation that take long enough to be noticed."""
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def register(app: typer.Typer) -> None:
    """Add the commands that run the platform."""
    for command in (up, stop, status, logs):
        app.command()(command)
    app.command("env-example")(write_env_example)
    app.command("prepare", hidden=True)(prepare)


def up() -> None:
    """Start the platform from this folder and run it until Ctrl-C."""
    try:
        local.run(HOME)
    except local.CannotRun as err:
        print(f"Rayonnage cannot run.\n{err}", file=sys.stderr)
        raise typer.Exit(1) from None


def stop() -> None:
    """Stop the platform that runs from this folder."""
    print("Stopped." if local.stop(HOME) else "Nothing was running.")


def status() -> None:
    """Show each process with its state, id and uptime, and why it is not ready. Exits with 1 unless all are ready."""
    supervisor = Supervisor(HOME, effective(HOME)).as_started()
    states = supervisor.states()
    if not states:
        starting = holder(supervisor.folder)
        print(f"Starting (process {starting})." if starting else "Not running; `make run` starts it.")
        raise typer.Exit(1)
    unready = supervisor.unready()
    table = Table("process", "state", "pid", "up", "ready")
    for process in supervisor.processes:
        # The supervisor may have been started by a version that had other processes.
        state = states.get(process.name) or ProcessState(process.name, "unknown", pid=None, uptime_s=0)
        uptime = str(timedelta(seconds=round(state.uptime_s))) if state.pid else "–"
        table.add_row(process.name, state.state, str(state.pid or "–"), uptime, unready.get(process.name, "yes"))
    Console().print(table)
    raise typer.Exit(1 if unready else 0)


def logs(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="- shows the output of `docker compose logs`. With --request: files, or -, to search instead."
        ),
    ] = None,
    lines: Annotated[int, typer.Option(help="Lines of each file to show first.")] = 5,
    request: Annotated[str | None, typer.Option(help="Show one request by its id, and the job it queued.")] = None,
) -> None:
    """Follow the logs of all processes until Ctrl-C, or search them for one request."""
    supervisor = Supervisor(HOME, effective(HOME))
    if request is not None:
        _show_request(request, sources or [], supervisor.logs)
        return
    if sources not in (None, [], ["-"]):
        raise typer.BadParameter("only - can be followed; give files with --request.", param_hint="sources")
    show = _LinePrinter()
    follower = LogFollower(supervisor.logs, show)
    try:
        if sources:
            for line in sys.stdin:
                name, bar, rest = line.rstrip("\n").partition("| ")
                show(*((name.strip(), rest) if bar else ("", name)))
        else:
            follower.start(lines)
            follower.follow()
    except KeyboardInterrupt:
        pass
    finally:
        follower.close()


class _LinePrinter:
    """Prints log lines after the name of their process: JSON events as readable text, other lines as they are."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._colours: dict[str, str] = {}
        self._render = structlog.dev.ConsoleRenderer(colors=self._console.is_terminal)

    def __call__(self, name: str, line: str) -> None:
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        event = parse_event(line.encode())
        if event is not None and "event" in event:
            event.pop("service", None)  # the name says so
            line = str(self._render(None, "", event))
        self._console.print(Text.assemble((f"{name:>20} ", colour), Text.from_ansi(line)), soft_wrap=True)


def _show_request(request_id: str, sources: list[str], folder: Path) -> None:
    files = [Path(one) for one in sources if one != "-"] if sources else log_files(folder)
    try:
        found = find_request(files, sys.stdin.buffer if "-" in sources else (), request_id)
    except OSError as err:
        print(f"{err.filename}: {err.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    if not found:
        where = ", ".join(sources) or f"{folder}, {len(files)} files"
        print(f"No log line of request {request_id} ({where}). Old rotated files are deleted.", file=sys.stderr)
        raise typer.Exit(1)
    render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    for one in found:
        event = dict(one.event)
        print(f"{event.pop('service', ''):>13} {render(None, '', event)}")


def write_env_example(
    output: Annotated[Path, typer.Option(help="File to write.")] = Path(".env.example"),
) -> None:
    """Write `.env.example` from the settings classes."""
    output.write_text(env_example(), encoding="utf-8")


def prepare() -> None:
    """Migrate the database and, unless DEMO=0, provide demo products and a first model."""
    from rayonnage_shared.ops.demo import prepare as run

    console = Console()
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("preparing", total=1.0, message="")
        present, since = "", time.monotonic()

        def stage(name: str) -> None:
            nonlocal present, since
            if present in _STEPS:
                console.print(f"  {_STEPS[present]}: {time.monotonic() - since:.0f} s", highlight=False)
            present, since = name, time.monotonic()
            bar.update(task, description=name, message="")

        run(
            local.LocalSettings(),
            HOME / _SAMPLE,
            stage=stage,
            progress=lambda fraction, message: bar.update(task, completed=fraction, message=message),
        )
        stage("")
