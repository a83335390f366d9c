"""The pattern of the older systems: Keras `predict` inside the route, a BiLSTM for the text and VGG16 for the photo.

The weights are random, since only the time counts. `tests.bench.peers.photos` compares it with the platform.
"""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
from fastapi import FastAPI, File, Form
from PIL import Image

CLASSES = 27
WORDS, LENGTH = 10_000, 128

app = FastAPI()
text_model = keras.Sequential(
    [
        keras.Input((LENGTH,)),
        keras.layers.Embedding(WORDS, 128),
        keras.layers.Bidirectional(keras.layers.LSTM(128)),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]
)
image_model = keras.Sequential(
    [
        keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]
)


@app.post("/predict")
def predict(designation: str = Form(), image: bytes = File()) -> dict[str, Any]:
    words = [hash(word) % WORDS for word in designation.lower().split()][:LENGTH]
    tokens = np.zeros((1, LENGTH))
    tokens[0, : len(words)] = words
    photo = Image.open(io.BytesIO(image)).convert("RGB").resize((224, 224))
    pixels = keras.applications.vgg16.preprocess_input(np.asarray(photo, dtype=np.float32)[None])
    both = text_model.predict(tokens, verbose=0)[0] + image_model.predict(pixels, verbose=0)[0]
    return {"category": int(both.argmax())}
