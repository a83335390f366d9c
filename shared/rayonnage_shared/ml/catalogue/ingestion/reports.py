"""Reports of ingests on disk: `<data>/ingests/<ingest_id>/{report.json, rejects.csv}`."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rayonnage_shared.core.errors import NotFound, RayonnageError
from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.ml.catalogue.schemas import IngestReport

INGEST_ID_PATTERN = r"^[0-9A-HJKMNP-TV-Z]{26}$"
MAX_KEPT = 1_000

# Depending on the country, spreadsheets split lines at a comma, a semicolon or a tab, and also within quotes that do
# not begin a cell of theirs. They read the full-width forms as the plain ones.
_FORMULA = re.compile(r"""(?:^|(?<=[,;|\t\r\n\v\f]))([\s"']*)([=+\-@\uff1d\uff0b\uff0d\uff20])""")


class IngestNotFound(NotFound):
    code, title = "ingest_not_found", "Ingest not found"


class IngestReportBroken(RayonnageError):
    code, title = "ingest_report_broken", "The report of an ingest is damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `rejects.csv`; `kind` is "row" (rejected), "photo" (rejected, but not its row) or "conflict"."""

    line: int
    kind: str
    reason: str
    product_id: str = ""
    image_id: str = ""
    designation: str = ""


class IngestReports:
    """The reports below one data folder."""

    def __init__(self, data_path: Path) -> None:
        self._folder = data_path / "ingests"

    def write(self, report: IngestReport, findings: Iterable[Finding]) -> None:
        """Save a report and its findings; delete the oldest reports beyond MAX_KEPT."""
        folder = self._folder / report.ingest_id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "rejects.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "kind", "reason", "productid", "imageid", "designation"])
            for one in findings:
                cells = [one.reason, one.product_id, one.image_id, one.designation[:200]]
                writer.writerow([one.line, one.kind, *map(without_formula, cells)])
        write_atomically(folder / "report.json", report.model_dump_json(indent=2).encode())
        for old in sorted(path for path in self._folder.iterdir() if path.is_dir())[:-MAX_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def read(self, ingest_id: str) -> IngestReport:
        """Return the report of a finished ingest. Raises IngestNotFound or IngestReportBroken."""
        try:
            return IngestReport.model_validate_json(self._file(ingest_id, "report.json").read_bytes())
        except ValidationError as error:
            raise IngestReportBroken(f"The report of ingest {ingest_id} is damaged: {first_fault(error)}.") from error

    def rejects_path(self, ingest_id: str) -> Path:
        """Return the path of the findings of a finished ingest. Raises IngestNotFound."""
        return self._file(ingest_id, "rejects.csv")

    def _file(self, ingest_id: str, name: str) -> Path:
        path = self._folder / ingest_id / name
        if not re.match(INGEST_ID_PATTERN, ingest_id) or not path.is_file():
            raise IngestNotFound(f"No report of an ingest `{ingest_id}`; it may still be running.")
        return path


def without_formula(cell: str) -> str:
    """Escape a cell so that no spreadsheet evaluates it, or a part of it after a separator, as a formula."""
    escaped = _FORMULA.sub(r"\1'\2", cell)
    return f"'{escaped}" if escaped.startswith(("\t", "\r")) else escaped
