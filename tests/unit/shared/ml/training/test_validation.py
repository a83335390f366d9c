"""Which requests are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.parameters import UnknownParameter
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.ml.training.search import NothingToSearch
from rayonnage_shared.ml.training.validation import (
    MIN_TRAIN_ROWS,
    DatasetTooSmall,
    known_parameters,
    validate_request,
)
from tests.unit.shared.ml.catalogue.manifests import VERSION, write_dataset


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """A data folder with one dataset version."""
    write_dataset(tmp_path)
    return DatasetStore(tmp_path)


def test_a_request_without_a_dataset_gets_the_one_that_is_current_now(store: DatasetStore) -> None:
    training = validate_request(TrainRequest(), store)
    search = validate_request(SearchRequest(text="tfidf-svm"), store)
    assert (training.dataset_version, search.dataset_version) == (VERSION, VERSION)
    assert training == TrainRequest(dataset_version=VERSION)
    write_dataset(store.data_path, version="20261122T081500Z-0000")
    assert validate_request(training, store) == training


def test_without_a_dataset_nothing_can_be_trained_or_searched(tmp_path: Path) -> None:
    for request in (TrainRequest(), SearchRequest(text="tfidf-svm")):
        with pytest.raises(DatasetNotFound, match="ingest labelled products"):
            validate_request(request, DatasetStore(tmp_path))


@pytest.mark.parametrize("request_", [TrainRequest(), SearchRequest(text="tfidf-svm")])
def test_a_dataset_that_is_too_small_to_train_on_is_refused(
    store: DatasetStore, request_: TrainRequest | SearchRequest
) -> None:
    write_dataset(store.data_path, rows=MIN_TRAIN_ROWS)
    validate_request(request_, store)
    write_dataset(store.data_path, rows=MIN_TRAIN_ROWS - 1)
    with pytest.raises(DatasetTooSmall, match=f"has {MIN_TRAIN_ROWS - 1} rows of 2 categories"):
        validate_request(request_, store)


def test_a_search_is_refused_when_a_fixed_parameter_is_unknown_or_none_is_left(store: DatasetStore) -> None:
    with pytest.raises(UnknownParameter, match="colour"):
        validate_request(SearchRequest(text="tfidf-svm", fixed={"colour": 1}), store)
    with pytest.raises(NothingToSearch, match="efficientnet-lite0"):
        validate_request(SearchRequest(image="efficientnet-lite0", fixed={"penalty": 1}), store)


def test_names_are_dotted_and_bare_names_need_one_modality() -> None:
    both = known_parameters(TrainRequest())
    assert both
    assert all(name.startswith(("text.", "image.")) for name in both)
    alone = known_parameters(TrainRequest(image=None))
    assert {name.removeprefix("text.") for name in alone} <= alone.keys()


def test_parameters_of_a_fusion_are_dotted_and_need_its_name(store: DatasetStore) -> None:
    named = TrainRequest(image=None, fusion="concatenate", parameters={"fusion.penalty": 0.1, "penalty": 2.0})
    validate_request(named, store)
    assert {"fusion.penalty", "fusion.dropout", "penalty"} <= known_parameters(named).keys()
    with pytest.raises(UnknownParameter):
        validate_request(named.model_copy(update={"fusion": None}), store)


def test_a_fusion_parameter_out_of_its_range_is_refused_before_anything_is_trained(
    store: DatasetStore,
) -> None:
    with pytest.raises(BadInput, match="dropout"):
        validate_request(TrainRequest(fusion="concatenate", parameters={"fusion.dropout": 2.0}), store)


def test_a_name_that_no_family_knows_is_refused_with_those_it_could_be(store: DatasetStore) -> None:
    with pytest.raises(UnknownParameter, match=r"Known: .*text\."):
        validate_request(TrainRequest(parameters={"text.regularization_typo": 1}), store)


def test_the_families_own_defaults_are_accepted(store: DatasetStore) -> None:
    validate_request(TrainRequest(parameters=known_parameters(TrainRequest())), store)
