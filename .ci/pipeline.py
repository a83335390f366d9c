"""Run the suites of `.ci/suites.toml`, for `.ci/run` and `make suites`.

Uses only the standard library, since nothing is installed yet when it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from machine import Engine, install_packages, missing_packages, run
from suites import (
    RECORD,
    ROOT,
    Commit,
    Pass,
    Suite,
    Table,
    UnknownSuite,
    read_record,
    read_table,
    unchanged_since,
    write_pass,
)

WORDS = {"run": "run", "passed": "passed", "failed": "FAILED", "skipped": "skipped", "not run": "NOT RUN"}


@dataclass(frozen=True)
class Outcome:
    """The result of a suite, or what is planned for it: one of WORDS, and the reason or the figures."""

    name: str
    word: str
    detail: str = ""

    def __str__(self) -> str:
        """Return the line of the summary."""
        return f"{WORDS[self.word]:<7} {self.name}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Budget:
    """The seconds that a run may take; None for no limit."""

    seconds: int | None

    def refuses(self, suite: Suite, gone_s: float) -> str:
        """Return why a suite is not started after `gone_s` seconds, or an empty string."""
        if self.seconds is None or gone_s + suite.usual_s <= self.seconds:
            return ""
        return f"it takes {suite.usual_s} s, and {gone_s:.0f} s of {self.seconds} s are used up"


@dataclass(frozen=True)
class Plan:
    """What a run will do, in this order."""

    outcomes: tuple[Outcome, ...]
    inputs: Mapping[str, str]
    chosen: tuple[Suite, ...] = field(default=())


def make_plan(
    suites: Sequence[Suite],
    *,
    inputs: Mapping[str, str],
    record: Mapping[str, Pass],
    only_changed: bool,
    engine_missing: str,
    budget: Budget,
) -> Plan:
    """Return which suites run, which are skipped, and which do not fit."""
    outcomes, chosen, planned_s = [], [], 0
    for suite in suites:
        last = unchanged_since(suite, inputs.get(suite.name, ""), record)
        if only_changed and last is not None and not suite.always:
            outcomes.append(Outcome(suite.name, "skipped", f"unchanged since {last.commit} passed ({last.date})"))
        elif suite.engine and engine_missing:
            outcomes.append(Outcome(suite.name, "not run", engine_missing))
        elif refused := budget.refuses(suite, planned_s):
            outcomes.append(Outcome(suite.name, "not run", refused))
        else:
            planned_s += suite.usual_s
            outcomes.append(Outcome(suite.name, "run", f"about {suite.usual_s} s"))
            chosen.append(suite)
    return Plan(tuple(outcomes), inputs, tuple(chosen))


def carry_out(
    plan: Plan,
    table: Table,
    engine: Engine,
    budget: Budget,
    *,
    done: dict[str, Outcome],
    recorded: Commit | None,
) -> None:
    """Run the chosen suites and put their results into `done`. With `recorded`, passes are written to the record."""
    started = time.monotonic()
    needed = {package for suite in plan.chosen for package in suite.debian}
    packages = missing_packages({name: command for name, command in table.debian.items() if name in needed})
    if packages:
        print("==== Debian packages", flush=True)
        status = install_packages(packages)
        word = "passed" if status == 0 else "failed"
        done["Debian packages"] = Outcome("Debian packages", word, " ".join(packages))
    waiting_for_engine = [suite for suite in plan.chosen if suite.engine]
    if waiting_for_engine:
        engine.begin()
    for suite in plan.chosen:
        if refused := budget.refuses(suite, time.monotonic() - started):
            done[suite.name] = Outcome(suite.name, "not run", refused)
        else:
            print(f"\n==== make {suite.name}", flush=True)
            done[suite.name] = _outcome(suite, engine, plan.inputs, recorded)
        if suite in waiting_for_engine:
            waiting_for_engine.remove(suite)
            if not waiting_for_engine:
                engine.end()  # it holds a dozen gigabytes


def _outcome(suite: Suite, engine: Engine, inputs: Mapping[str, str], recorded: Commit | None) -> Outcome:
    if suite.engine and not engine.wait():
        return Outcome(suite.name, "failed", "the Docker engine does not respond")
    began = time.monotonic()
    ended = run(["make", "--no-print-directory", suite.name], suite.limit_s, engine.environment)
    seconds = round(time.monotonic() - began)
    said = f" {ended.closing_line}" if ended.closing_line else ""
    if ended.status != 0:
        how = f"stopped after {suite.limit_s} s" if ended.status is None else f"status {ended.status} after {seconds} s"
        return Outcome(suite.name, "failed", f"{how};{said}" if said else how)
    if recorded is not None:
        if Commit(recorded.root).id != recorded.id or recorded.changed_files():
            return Outcome(suite.name, "passed", f"{seconds} s;{said} NOT RECORDED: the checkout changed meanwhile")
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        write_pass(suite.name, Pass(inputs[suite.name], recorded.id[:12], today, seconds), recorded.root)
    return Outcome(suite.name, "passed", f"{seconds} s;{said}" if said else f"{seconds} s")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed options."""
    parser = argparse.ArgumentParser(prog=".ci/run", description="Run the suites of .ci/suites.toml.")
    parser.add_argument("--plan", action="store_true", help="only print what would run")
    parser.add_argument("--all", action="store_true", help="run every suite, changed or not, without a time limit")
    modes = parser.add_subparsers(dest="mode")
    only = modes.add_parser("suites", help="run suites and record those that passed (`make suites`)")
    only.add_argument(
        "names", nargs="*", metavar="NAME", help="run these, changed or not; default: all whose inputs changed"
    )
    only.add_argument("--plan", action="store_true", default=argparse.SUPPRESS, help="as above")
    only.add_argument("--all", action="store_true", default=argparse.SUPPRESS, help="as above")
    only.add_argument("--changed", action="store_true", help="run only those of the named suites whose inputs changed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run the suites that `arguments` select; return 0 if all passed, 1 if one failed, 2 if none could be started."""
    options = parse(arguments)
    table, commit = read_table(), Commit()
    recording = options.mode == "suites"
    try:
        suites = table.suites
        if recording:
            suites = table.named(options.names or [suite.name for suite in table.suites if not suite.always])
    except UnknownSuite as err:
        print(err, file=sys.stderr)
        return 2
    if recording and not options.plan and (changes := commit.changed_files()):
        print(
            "A pass is recorded for a commit, and this checkout has uncommitted changes:\n"
            + "\n".join(changes[:10])
            + "\nCommit them first, or run a suite with its make target, which records nothing.",
            file=sys.stderr,
        )
        return 2
    budget = Budget(None if options.all or recording else table.budget_s)
    engine = Engine()
    plan = make_plan(
        suites,
        inputs={suite.name: commit.inputs(suite, table) for suite in suites if not suite.always},
        record=read_record(),
        only_changed=not options.all and (not recording or options.changed or not options.names),
        engine_missing=engine.why_missing if any(suite.engine for suite in suites) else "",
        budget=budget,
    )
    print(f"==== Plan for commit {commit.id[:12]}")
    print("\n".join(map(str, plan.outcomes)), flush=True)
    if options.plan:
        return 0
    planned = {
        one.name: Outcome(one.name, "not run", "interrupted") if one.word == "run" else one for one in plan.outcomes
    }
    done: dict[str, Outcome] = {}
    try:
        with _nothing_left_running(engine):
            carry_out(plan, table, engine, budget, done=done, recorded=commit if recording else None)
    finally:
        print("\n==== Summary")
        print("\n".join(map(str, {**planned, **done}.values())), flush=True)
    if recording and any(outcome.word == "passed" for outcome in done.values()):
        print(f"Commit {RECORD} to keep this record.")
    return int(any(outcome.word == "failed" for outcome in done.values()))


@contextlib.contextmanager
def _nothing_left_running(engine: Engine) -> Iterator[None]:
    """Stop the engine, and the platform if it was not running before, however the block ends."""
    supervisor = ROOT / ".run" / "supervisord.pid"
    was_running = supervisor.exists()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        if supervisor.exists() and not was_running:
            subprocess.call(["make", "-s", "stop"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        engine.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
