"""A pretrained Keras network and how its inputs are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network of keras.applications that takes blue, green, red minus ImageNet's means ("caffe" there)."""

    application: str
    """Name of the function."""
    hub: HubFile
    """Its ImageNet weights without the classifier."""
    last_block: str
    """What the names of the layers begin with that fine-tuning changes."""
