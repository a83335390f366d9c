"""The command line `rayonnage`: one module per subject."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import structlog
import typer
from pydantic import ValidationError

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.validation import faults

SUBJECTS = (
    "local",
    "data",
    "data_stages",
    "models",
    "jobs",
    "users",
    "versions",
    "sync",
    "lineage",
    "deployment",
    "monitoring",
    "dashboard",
)
ALONE = {
    **dict.fromkeys(("up", "stop", "status", "logs", "prepare", "env-example"), "local"),
    "monitor": "monitoring",
    "dashboard": "dashboard",
}
"""Commands that load only their own subject: `status` starts fast, and `monitor` has few dependencies."""


def create_app(subjects: Sequence[str] = SUBJECTS) -> typer.Typer:
    """Return the command line with the commands of the given subjects."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # they may hold passwords
        help="Rayonnage: product type codes for a French marketplace.",
    )
    app.callback()(lambda: None)  # keeps a single command a sub-command
    for subject in subjects:
        importlib.import_module(f"rayonnage_shared.cli.{subject}").register(app)
    return app


def main() -> None:
    """Run the command line. An expected failure prints one sentence, not a traceback."""
    # Log events of the services would break the progress bars.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    alone = ALONE.get(sys.argv[1]) if sys.argv[1:2] else None
    subjects = (alone,) if alone else SUBJECTS
    try:
        create_app(subjects)()
    except RayonnageError as err:
        print(f"{err.title}: {err.detail}", file=sys.stderr)
        sys.exit(1)
    except ValidationError as err:  # an option with an invalid value
        for fault in faults(err):
            print(fault.message, file=sys.stderr)
        sys.exit(1)
    except Exception as err:
        from sqlalchemy.exc import OperationalError  # takes 0.1 s, which commands without a database save

        if not isinstance(err, OperationalError):
            raise
        print(f"The database at DATABASE_URL cannot be used: {err.orig}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
