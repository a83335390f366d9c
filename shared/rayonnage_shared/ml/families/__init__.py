"""Model families by name; importing this package loads no training library."""

from __future__ import annotations

from rayonnage_shared.ml.families.base import ImageModel, TextModel


def text_families() -> dict[str, type[TextModel]]:
    """Return the text families by name."""
    from rayonnage_shared.ml.families.tfidf_embedding import TfidfEmbedding
    from rayonnage_shared.ml.families.tfidf_svm import TfidfSvm

    return {family.name: family for family in (TfidfEmbedding, TfidfSvm)}


def image_families() -> dict[str, type[ImageModel]]:
    """Return the photo families by name."""
    from rayonnage_shared.ml.families.efficientnet_lite0 import EfficientNetLite0

    return {family.name: family for family in (EfficientNetLite0,)}
