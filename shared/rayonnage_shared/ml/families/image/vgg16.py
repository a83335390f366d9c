"""`vgg16`: VGG16 (Simonyan & Zisserman 2014) with ImageNet weights, weights from a file, or random weights."""

from __future__ import annotations

from rayonnage_shared.ml.networks.keras.application import Backbone
from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile
from rayonnage_shared.ml.networks.photo_networks import PhotoNetwork


class Vgg16(PhotoNetwork):
    """13 convolutions; 512 features per photo. By far the slowest photo family."""

    name = "vgg16"
    backbone = Backbone(
        "VGG16",
        # Address and md5 as in keras.applications.vgg16.
        HubFile(
            "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "6d6bbae143d832006294945121d1f1fc",
        ),
        last_block="block5_",
    )
