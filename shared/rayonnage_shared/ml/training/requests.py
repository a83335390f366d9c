"""Training requests: families, parameters and promotion policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from rayonnage_shared.ml.families import Kind, family_names


class _FamilyName:
    """Makes a string the name of a model family that there is; the schema lists them."""

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": list(family_names(self._kind))}

    def _check(self, name: str) -> str:
        names = family_names(self._kind)
        if name not in names:
            raise ValueError(f"there is no {self._kind} family of this name; known are {', '.join(names)}")
        return name


TextFamily = Annotated[str, _FamilyName("text")]


ImageFamily = Annotated[str, _FamilyName("image")]


FusionFamily = Annotated[str, _FamilyName("fusion")]


PromotePolicy = Literal["if_better", "never", "always"]


FUSION_DEFAULT = "Default: the champion's family, or `weighted` where it has none."


class TextTrainRequest(BaseModel):
    """What to train on titles and descriptions; the champion's photo model is kept and the fusion refitted."""

    model_config = ConfigDict(extra="forbid")

    dataset_version: str | None = Field(None, description="Default: the newest.", max_length=64)
    text: TextFamily = "tfidf-embedding"
    fusion: FusionFamily | None = Field(None, description=FUSION_DEFAULT)
    parameters: dict[str, float | int | str | bool] = Field(default_factory=dict)
    promote: PromotePolicy = "if_better"


class ImageTrainRequest(BaseModel):
    """What to train on photos; the champion's text model is kept and the fusion refitted."""

    model_config = ConfigDict(extra="forbid")

    dataset_version: str | None = Field(None, description="Default: the newest.", max_length=64)
    image: ImageFamily = "efficientnet-lite0"
    fusion: FusionFamily | None = Field(None, description=FUSION_DEFAULT)
    parameters: dict[str, float | int | str | bool] = Field(default_factory=dict)
    promote: PromotePolicy = "if_better"


class TrainRequest(BaseModel):
    """What to train. A modality that is null keeps the champion's model; the fusion is refitted either way."""

    model_config = ConfigDict(extra="forbid")

    dataset_version: str | None = Field(None, description="Default: the newest.", max_length=64)
    text: TextFamily | None = "tfidf-embedding"
    image: ImageFamily | None = "efficientnet-lite0"
    fusion: FusionFamily | None = Field(None, description=FUSION_DEFAULT)
    parameters: dict[str, float | int | str | bool] = Field(
        default_factory=dict,
        description="By dotted name, such as `text.penalty`; unknown names are refused. Those of a fusion, such as "
        "`fusion.penalty`, need `fusion` to be named.",
    )
    promote: PromotePolicy = "if_better"


class SearchRequest(BaseModel):
    """Which family's parameters to search; name one, `text` or `image`. The defaults are the first trial."""

    model_config = ConfigDict(extra="forbid")

    dataset_version: str | None = Field(None, description="Default: the newest.", max_length=64)
    text: TextFamily | None = None
    image: ImageFamily | None = None
    goal: Literal["f1_macro", "f1_weighted", "log_loss"] = Field(
        "f1_macro", description="What is judged, on held-out rows of the training split."
    )
    trials: int = Field(20, ge=1, le=500, description="Stop after so many trials …")
    budget_s: float = Field(1800, ge=1, le=86_400, description="… or seconds, whichever comes first.")
    fixed: dict[str, float | int | str | bool] = Field(
        default_factory=dict, description="Parameters that keep these values, by bare name."
    )
    train: bool = Field(True, description="Train, judge and perhaps promote a bundle with the best parameters.")
    promote: PromotePolicy = "if_better"

    @model_validator(mode="after")
    def _one_family(self) -> SearchRequest:
        if (self.text is None) == (self.image is None):
            raise ValueError("name one family to search: `text` or `image`")
        return self
