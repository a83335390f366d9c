"""Bodies of predict: the JSON form, the multipart form and the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from rayonnage_shared.core.validation import RequestModel

MAX_TEXT_CHARACTERS = 20_000
MAX_TOP_K = 27
SEND_THE_PHOTO = "Send the photo in the field `image`."

_empty_to_none = BeforeValidator(lambda value: None if value == "" else value)
Text = Annotated[Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] | None, _empty_to_none]
Identifier = Annotated[Annotated[str, Field(max_length=128)] | None, _empty_to_none]


class ProductFields(RequestModel):
    """The fields of a product, without its photo."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    other_fields: ClassVar[tuple[str, ...]] = ("image",)
    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(("file", "files", "photo", "picture", "img"), SEND_THE_PHOTO)

    designation: Text = Field(None, description="Title. Needed unless a photo is sent.")
    description: Text = Field(None, description="Description; HTML is allowed.")
    product_identifier: Identifier = Field(
        None, description="Your identifier of the product, returned in the response."
    )
    product_id: Identifier = Field(None, description="The catalogue's product number; ignored.")
    imageid: Identifier = Field(None, description="The catalogue's photo number; ignored.")
    top_k: int = Field(3, ge=1, le=MAX_TOP_K, description="How many categories to return, most probable first.")


class PredictJson(ProductFields):
    """The JSON form: the photo as base64 or data URI, never as a path or a URL."""

    other_fields: ClassVar[tuple[str, ...]] = ()

    image: Annotated[str | None, _empty_to_none] = Field(None, description="Base64 or data URI; JPEG, PNG or WebP.")


class Category(BaseModel):
    category_id: int = Field(description="The product type code.", examples=[2583])
    label: str = Field(examples=["Piscine > Entretien"])


class CategoryList(BaseModel):
    categories: list[Category] = Field(description="By ascending code.")


class CategoryProbability(BaseModel):
    category_id: int
    label: str
    probability: float


class Modality(BaseModel):
    used: bool
    category_id: int | None = None
    probability: float | None = None
    reason: str | None = Field(None, description="Why what was sent was not used; null if it was used or not sent.")


class Modalities(BaseModel):
    text: Modality
    image: Modality


class ModelReference(BaseModel):
    version: str
    family: str


class Prediction(BaseModel):
    prediction_id: str
    predicted: str
    predicted_category: str
    category_id: int
    label: str
    confidence: float
    predictions: list[CategoryProbability]
    modalities: Modalities
    model: ModelReference
    decision: Literal["accept", "review"]
    product_identifier: str | None
    duration_ms: float


class CategoryDocument(TypedDict):
    category_id: int
    label: str
    probability: float


class ModalityDocument(TypedDict):
    used: bool
    category_id: int | None
    probability: float | None
    reason: str | None


class ModalitiesDocument(TypedDict):
    text: ModalityDocument
    image: ModalityDocument


class ModelDocument(TypedDict):
    version: str
    family: str


class PredictionDocument(TypedDict):
    """The members of `Prediction` as plain values: building and writing them costs a third of the models (stages.py).

    The predict routes validate it as `Prediction` where FastAPI answers; a test holds both answers equal.
    """

    prediction_id: str
    predicted: str
    predicted_category: str
    category_id: int
    label: str
    confidence: float
    predictions: list[CategoryDocument]
    modalities: ModalitiesDocument
    model: ModelDocument
    decision: Literal["accept", "review"]
    product_identifier: str | None
    duration_ms: float
