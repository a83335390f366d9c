"""Which of two models was trained on older data; the demo catalogue is older than any real dataset.

The champion is replaced by a model of older data only when somebody allows it explicitly.
"""

from __future__ import annotations

from pathlib import Path

from rayonnage_shared.ml.bundles.manifest import Manifest, creation_time
from rayonnage_shared.ml.bundles.origins import has_demo_part
from rayonnage_shared.ml.catalogue.datasets import DatasetStore


def older_than(models_path: Path, manifest: Manifest, champion: Manifest) -> str | None:
    """Return in words how a model's data is older than the champion's, or None if it is not."""
    demo, champion_demo = (has_demo_part(models_path, one) for one in (manifest, champion))
    if demo != champion_demo:
        found = f"{manifest.version} was trained on the demo catalogue, the champion on real products"
        return found if demo else None
    if manifest.dataset.version < champion.dataset.version:
        return (
            f"{manifest.version} was trained on dataset {manifest.dataset.version}, "
            f"the champion on the newer {champion.dataset.version}"
        )
    return None


def older_than_newest(models_path: Path, store: DatasetStore, manifest: Manifest) -> str | None:
    """Return in words how a model's data is older than the newest dataset, or None if it is not.

    A real dataset is newer than the demo catalogue. One that was ingested after the training had begun does not count.
    """
    datasets, _broken = store.described()
    real = [one.version for one in datasets if not one.demo]
    demo = has_demo_part(models_path, manifest)
    if demo and real:
        return f"{manifest.version} was trained on the demo catalogue, and there is the real dataset {real[-1]}"
    line = [one.version for one in datasets] if demo else real
    begun = creation_time(manifest.version)
    newer = [one for one in line if one > manifest.dataset.version and creation_time(one) <= begun]
    if not newer:
        return None
    return f"{manifest.version} was trained on dataset {manifest.dataset.version}, and the newest was {newer[-1]}"
