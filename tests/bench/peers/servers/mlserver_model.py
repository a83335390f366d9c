"""MLServer's runtime: a custom model behind the Open Inference Protocol."""

from __future__ import annotations

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.bench.peers.function import load_function


class Product(MLModel):
    async def load(self) -> bool:
        self._answer = load_function()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        titles = StringCodec.decode_input(payload.inputs[0])
        answers = [json.dumps(self._answer(title, None)) for title in titles]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answer", answers)])
