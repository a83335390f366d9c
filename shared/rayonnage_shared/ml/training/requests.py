"""Requests for a training and for a parameter search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, WithJsonSchema, WrapValidator, model_validator

from rayonnage_shared.core.validation import RequestModel, wrong_value
from rayonnage_shared.ml.base.parameters import Parameter, Parameters
from rayonnage_shared.ml.families import Component, family_names


def _check_name(component: Component, name: str) -> str:
    names = family_names(component)
    if name not in names:
        raise ValueError(f"there is no {component} family of this name; known are {', '.join(names)}")
    return name


def _schema(component: Component) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(family_names(component))})


def _check_value(value: Any, check: Callable[[Any], Parameter]) -> Parameter:
    try:
        return check(value)
    except ValidationError as error:  # one for each of the types
        raise wrong_value("must be a number, a string, `true` or `false`") from error


_Value = Annotated[Parameter, WrapValidator(_check_value)]
TextFamily = Annotated[str, AfterValidator(partial(_check_name, "text")), _schema("text")]
ImageFamily = Annotated[str, AfterValidator(partial(_check_name, "image")), _schema("image")]
FusionFamily = Annotated[str, AfterValidator(partial(_check_name, "fusion")), _schema("fusion")]
PromotePolicy = Literal["if_better", "never", "always"]

FUSION_DEFAULT = "Default: the champion's family, or `weighted` if it has none."


class PipelineRequest(RequestModel, ABC):
    """What all requests have in common."""

    dataset_version: str | None = Field(None, description="Default: the newest.", max_length=64)
    promote: PromotePolicy = "if_better"
    allow_older_data: bool = Field(
        False,
        description="Let `promote: always` promote a model of an older dataset or of the demo catalogue.",
    )

    @abstractmethod
    def training(self) -> TrainRequest:
        """Return the training that is asked for; of a search, with the parameters that are fixed."""


class _TrainingRequest(PipelineRequest):
    """What the requests for a training have in common."""

    fusion: FusionFamily | None = Field(None, description=FUSION_DEFAULT)
    parameters: dict[str, _Value] = Field(
        default_factory=dict,
        description="By dotted name, such as `text.penalty`; unknown names are refused. Those of a fusion, such as "
        "`fusion.penalty`, need `fusion` to be named.",
    )

    def training(self) -> TrainRequest:
        """Return the request for both modalities; one that this request does not have keeps the champion's model."""
        return TrainRequest.model_validate({"text": None, "image": None, **self.model_dump()})


class TextTrainRequest(_TrainingRequest):
    """What to train on titles and descriptions; the champion's photo model is kept and the fusion is refitted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "tfidf-svm", "promote": "if_better"}]})

    text: TextFamily = "tfidf-embedding"


class ImageTrainRequest(_TrainingRequest):
    """What to train on photos; the champion's text model is kept and the fusion is refitted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": "efficientnet-lite0", "promote": "if_better"}]})

    image: ImageFamily = "efficientnet-lite0"


class TrainRequest(_TrainingRequest):
    """What to train. A modality that is null keeps the champion's model; the fusion is always refitted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "tfidf-embedding", "image": "efficientnet-lite0", "promote": "if_better"}]
        }
    )

    text: TextFamily | None = "tfidf-embedding"
    image: ImageFamily | None = "efficientnet-lite0"

    def parameters_of(self, component: Component) -> dict[str, Parameter]:
        """Return the parameters of one component: `text.x` as `x`.

        A bare name is a parameter of the only modality that is trained.
        """
        prefix = f"{component}."
        own = {name.removeprefix(prefix): one for name, one in self.parameters.items() if name.startswith(prefix)}
        if component != "fusion" and (self.text is None or self.image is None):
            own |= {name: one for name, one in self.parameters.items() if "." not in name}
        return own


class SearchRequest(PipelineRequest):
    """Which family's parameters to search; name one, `text` or `image`. The defaults are the first trial."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "tfidf-svm", "trials": 5, "budget_s": 300}]})

    text: TextFamily | None = None
    image: ImageFamily | None = None
    goal: Literal["f1_macro", "f1_weighted", "log_loss"] = Field(
        "f1_macro", description="The metric to optimise, on held-out rows of the training split."
    )
    trials: int = Field(20, ge=1, le=500, description="Maximum number of trials.")
    budget_s: float = Field(
        1800, ge=1, le=86_400, description="Maximum time in seconds; the search stops at whichever limit comes first."
    )
    fixed: dict[str, _Value] = Field(
        default_factory=dict, description="Parameters that keep these values, by bare name."
    )
    train: bool = Field(
        True, description="Train a bundle with the best parameters, and promote it if `promote` says so."
    )

    def training(self) -> TrainRequest:
        """Return the training with the parameters that are fixed."""
        return self.training_with(self.fixed)

    def training_with(self, parameters: Parameters) -> TrainRequest:
        """Return the training of the searched family with these parameters."""
        return TrainRequest(
            dataset_version=self.dataset_version,
            text=self.text,
            image=self.image,
            parameters=dict(parameters),
            promote=self.promote,
            allow_older_data=self.allow_older_data,
        )

    @property
    def component(self) -> Component:
        """The component whose family is searched."""
        return "text" if self.text is not None else "image"

    @property
    def family(self) -> str:
        """The name of the family to search."""
        return self.text or self.image or ""

    @model_validator(mode="after")
    def _one_family(self) -> SearchRequest:
        if (self.text is None) == (self.image is None):
            raise ValueError("name one family to search: `text` or `image`")
        return self
