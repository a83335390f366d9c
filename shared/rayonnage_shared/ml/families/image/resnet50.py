"""`resnet50`: ResNet-50 (He et al. 2015) with ImageNet weights, weights from a file, or random weights."""

from __future__ import annotations

from rayonnage_shared.ml.networks.keras.application import Backbone
from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile
from rayonnage_shared.ml.networks.photo_networks import PhotoNetwork


class ResNet50(PhotoNetwork):
    """53 convolutions with residual connections; 2048 features per photo."""

    name = "resnet50"
    backbone = Backbone(
        "ResNet50",
        # Address and md5 as in keras.applications.resnet.
        HubFile(
            "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "4d473c1dd8becc155b73f8504c6f6626",
        ),
        last_block="conv5_",
    )
