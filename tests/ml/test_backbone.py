from __future__ import annotations

from importlib import resources

import numpy as np
import onnx
import onnxruntime
import pytest

from rayonnage_shared.ml.features.photo_features import PhotoFeatures
from rayonnage_shared.ml.networks import backbone
from rayonnage_shared.ml.networks.backbone import BackboneNotTrusted, build_backbone


@pytest.fixture(scope="module")
def network() -> bytes:
    return build_backbone()


def test_the_network_answers_as_the_original_does(network: bytes) -> None:
    file = resources.files("rayonnage_shared.ml.networks").joinpath("efficientnet_lite0_reference.npz")
    with file.open("rb") as content:
        reference = np.load(content, allow_pickle=False)
        pixels = reference["small"].repeat(32, axis=1).repeat(32, axis=2)
        right = reference["embedding"]

    np.testing.assert_allclose(PhotoFeatures(network).embed(pixels)[:, :1280], right, rtol=0, atol=1e-4)


def test_the_other_features_are_deviation_and_mean_of_the_channels_in_the_middle(network: bytes) -> None:
    model = onnx.load_from_string(network)
    (centring,) = [node for node in model.graph.node if node.op_type == "Sub" and node.input[1] != "mean"]
    model.graph.output.append(onnx.helper.make_tensor_value_info(centring.input[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)

    embedding, middle = session.run(["embedding", centring.input[0]], {"pixels": pixels})

    assert middle.shape == (2, 112, 14, 14)
    right = np.concatenate([middle.std(axis=(2, 3)), middle.mean(axis=(2, 3))], axis=1)
    np.testing.assert_allclose(embedding[:, 1280:], right, atol=1e-4)


def test_a_photo_has_the_same_features_alone_and_among_others(network: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    features = PhotoFeatures(network)

    together = features.embed(pixels)

    np.testing.assert_allclose(features.embed(pixels[1:2]), together[1:2], atol=1e-5)


def test_the_network_is_the_same_file_every_time(network: bytes) -> None:
    assert build_backbone() == network


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "_WEIGHTS_SHA256", "0" * 64)

    with pytest.raises(BackboneNotTrusted, match="sha256"):
        build_backbone()


def test_a_network_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "_BATCH_NORM_EPSILON", 1e-2)

    with pytest.raises(BackboneNotTrusted, match="differs"):
        build_backbone()
