"""Answers the predict routes: who asks, is there room for the body, what is asked, where to predict it.

`HotRoutes` calls this ahead of FastAPI. A request costs these steps and nothing else; docs/benchmarks.md says what each
takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pydantic_core

from rayonnage_predict.champion import ChampionLoader
from rayonnage_predict.predictor import Caller, Predictor
from rayonnage_predict.request_parsing import Only, PredictRequest, check_media_type, parse
from rayonnage_predict.workers import Workers
from rayonnage_shared.auth.dependencies import verified_caller
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.http.hot_routes import Handler, HotAnswer, HotRequest
from rayonnage_shared.http.languages import preferred_language
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.predictions.schemas import PredictionDocument

SMALL_BODY_BYTES = 64 * 1024
"""Smaller bodies are parsed on the event loop, which takes less than 0.3 ms, and are always admitted."""
SHORT_TEXT_CHARACTERS = 500
"""A fast text model takes 0.4 ms for as many, so the event loop may do it: at one connection a thread would make that
576 µs of CPU instead of 378 (`tfidf-svm`, a short title). The time of longer texts grows with them, and would delay all
other requests."""
THREAD_BODY_BYTES = 4_096
"""A larger body holds a photo or a longer text than that, so it needs a thread."""


class BodyMemory:
    """The bytes of request bodies that are in memory, all together. They are freed with the answer."""

    def __init__(self, limit_bytes: int) -> None:
        self.left = limit_bytes

    def take(self, count: int) -> None:
        """Count `count` more bytes. Raises Overloaded if there is no room for them."""
        if count > self.left:
            raise Overloaded("Too many large requests arrive at once; try again in a second.")
        self.left -= count


class _Held:
    """The part of the memory that one request holds."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._received = 0
        self._counted = 0

    def reserve(self, count: int) -> None:
        self._received += count
        if self._received > SMALL_BODY_BYTES:
            self._memory.take(self._received - self._counted)
            self._counted = self._received

    def release(self) -> None:
        self._memory.left += self._counted


class Answering:
    """The predict routes as handlers for `HotRoutes`."""

    def __init__(
        self,
        verifier: TokenVerifier,
        champion: ChampionLoader,
        predictor: Predictor,
        workers: Workers,
        memory: BodyMemory,
    ) -> None:
        self._verifier = verifier
        self._champion = champion
        self._predictor = predictor
        self._workers = workers
        self._memory = memory

    def routes(self) -> Mapping[str, Handler]:
        """Return the handler of each path."""
        return {
            "/predict": partial(self._answer, None),
            "/predict/text/manual": partial(self._answer, "text"),
            "/predict/image/manual": partial(self._answer, "image"),
        }

    async def _answer(self, only: Only, request: HotRequest) -> HotAnswer:
        user = verified_caller(self._verifier, request.headers.get(b"authorization"))
        request.user = user.username
        accepted = request.headers.get(b"accept-language")
        language = preferred_language(accepted.decode("latin-1"), self._predictor.languages) if accepted else None
        caller = Caller(user.username, request.request_id, request.received_at, language, request.span)
        document = await self._predict(request, caller, only)
        headers = ((b"content-language", language.encode()),) if language else ()
        return HotAnswer(pydantic_core.to_json(document), headers)

    async def _predict(self, request: HotRequest, caller: Caller, only: Only) -> PredictionDocument:
        content_type = request.headers.get(b"content-type", b"").decode("latin-1")
        check_media_type(content_type)
        if request.announced_bytes > THREAD_BODY_BYTES:
            self._workers.check_room()  # before a body is received that nobody would look at in time
        held = _Held(self._memory)
        try:
            body = await request.body(held.reserve)
            bundle = self._champion.bundle
            if len(body) > SMALL_BODY_BYTES:

                def parse_and_predict() -> PredictionDocument:
                    return self._predictor.predict(bundle, parse(content_type, body, only), caller)

                return await self._workers.run(parse_and_predict, request.disconnected)
            product = parse(content_type, body, only)
            if _is_short_work(bundle, product):
                return self._predictor.predict(bundle, product, caller)
            predict = partial(self._predictor.predict, bundle, product, caller)
            return await self._workers.run(predict, request.disconnected)
        finally:
            held.release()


def _is_short_work(bundle: Bundle, product: PredictRequest) -> bool:
    if product.photo is not None or bundle.text_model is None or not bundle.text_model.fast:
        return False
    return len(product.fields.designation or "") + len(product.fields.description or "") <= SHORT_TEXT_CHARACTERS
