"""The command line `rayonnage`: one sub-module a subject."""

from __future__ import annotations

import sys

import typer

from rayonnage_shared.cli import data, local, models, users
from rayonnage_shared.errors import RayonnageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold passwords
    help="Rayonnage: product type codes for a French marketplace.",
)
for subject in (local, data, models, users):
    subject.register(app)


def main() -> None:
    """Run the command line; an expected failure is one sentence, not a traceback."""
    try:
        app()
    except RayonnageError as err:
        print(f"{err.title}: {err.detail}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
