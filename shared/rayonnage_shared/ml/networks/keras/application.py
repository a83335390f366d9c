"""A pretrained Keras network and how its inputs are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network of keras.applications with BGR input minus ImageNet's means (mode "caffe")."""

    application: str
    """Name of its function."""
    hub: HubFile
    """Its ImageNet weights without the classifier."""
    last_block: str
    """Name prefix of the layers that fine-tuning changes."""
