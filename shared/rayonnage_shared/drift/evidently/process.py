"""Evidently's report, made in a process of its own: `python -m rayonnage_shared.drift.evidently.process FOLDER`.

Evidently takes 10 s and 300 MB to import, and an error in it must not affect the report. The folder holds
`reference.parquet` and `current.parquet`; `evidently.html` and `evidently.json` are written beside them. Nothing else
of Rayonnage is imported here.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path


def main(folder: Path) -> None:
    """Write the report on the two tables in `folder`."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    warnings.simplefilter("ignore")  # its own, about divisions by zero
    tables = [pd.read_parquet(folder / f"{name}.parquet") for name in ("current", "reference")]
    numbers = list(tables[0].select_dtypes("number").columns)
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in tables[0].columns if name not in numbers]
    )
    current, reference = (Dataset.from_pandas(one, data_definition=definition) for one in tables)
    snapshot = Report([DataDriftPreset()]).run(current, reference)
    snapshot.save_html(str(folder / "evidently.html"))
    (folder / "evidently.json").write_text(json.dumps(json.loads(snapshot.json())), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
