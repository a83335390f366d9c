"""Whether a model of a bundle was trained on the demo catalogue, also if it was kept from an earlier bundle.

Bundles for real products have no such part. One that was trained before this was enforced may have one.
"""

from __future__ import annotations

from pathlib import Path

from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Manifest, read_manifest
from rayonnage_shared.ml.families import Component


def is_demo_model(models_path: Path, manifest: Manifest, component: Component) -> bool | None:
    """Return whether a model was fitted to the demo catalogue; None if the bundle it was kept from is gone."""
    recorded = manifest.models.get(component)
    if recorded is not None and recorded.demo is not None:
        return recorded.demo
    while manifest.base_version is not None:
        try:
            base = read_manifest(models_path, manifest.base_version)
        except (BundleNotFound, BundleBroken):
            return None
        if _files_of(manifest, component) != _files_of(base, component):
            break
        manifest = base
    return manifest.dataset.demo


def has_demo_part(models_path: Path, manifest: Manifest) -> bool:
    """Return whether a bundle, or a model that it kept, was trained on the demo catalogue."""
    components = manifest.families.present()
    return manifest.dataset.demo or any(is_demo_model(models_path, manifest, one) for one in components)


def _files_of(manifest: Manifest, component: Component) -> dict[str, str]:
    return {name: digest for name, digest in manifest.files.items() if name.startswith(f"{component}/")}
