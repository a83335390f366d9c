"""The command line `rayonnage`: one sub-module a subject."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import structlog
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from rayonnage_shared.core.errors import RayonnageError

SUBJECTS = (
    "local",
    "data",
    "models",
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
"""Commands whose subject is loaded alone: `make status` answers at once, `monitor` runs where nothing else could."""


def create_app(subjects: Sequence[str] = SUBJECTS) -> typer.Typer:
    """Return the command line with the commands of these subjects."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # they may hold passwords
        help="Rayonnage: product type codes for a French marketplace.",
    )
    app.callback()(lambda: None)  # keeps a command a sub-command although it is the only one
    for subject in subjects:
        importlib.import_module(f"rayonnage_shared.cli.{subject}").register(app)
    return app


def main() -> None:
    """Run the command line; an expected failure is one sentence, not a traceback."""
    # What the commands print is for people; the services' own events would tear their progress bars.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    alone = ALONE.get(sys.argv[1]) if sys.argv[1:2] else None
    subjects = (alone,) if alone else SUBJECTS
    try:
        create_app(subjects)()
    except RayonnageError as err:
        print(f"{err.title}: {err.detail}", file=sys.stderr)
        sys.exit(1)
    except ValidationError as err:  # an option, or a setting, with a value that it cannot have
        for one in err.errors(include_input=False, include_url=False):
            print(f"{'.'.join(map(str, one['loc'])) or err.title}: {one['msg']}", file=sys.stderr)
        sys.exit(1)
    except SettingsError as err:
        print(err, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
