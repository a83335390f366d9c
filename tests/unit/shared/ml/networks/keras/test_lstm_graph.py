"""The graph against the equations of an LSTM (Hochreiter & Schmidhuber 1997, with forget gate), in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.networks.keras.lstm_graph import Dense, Direction, LstmWeights, build_lstm
from rayonnage_shared.ml.networks.quantization import quantize_recurrences
from rayonnage_shared.ml.networks.scoring_network import Scored, ScoringNetwork

WORDS, WIDTH, UNITS, FEATURES, CLASSES = 30, 5, 4, 6, 3
ROWS = [[7, 3, 9, 11, 2], [5], [29, 1, 2, 4]]


def weights(seed: int = 0) -> LstmWeights:
    random = np.random.default_rng(seed)

    def some(*shape: int) -> np.ndarray:
        return random.normal(0, 0.7, shape).astype(np.float32)

    def direction() -> Direction:
        return Direction(some(WIDTH, 4 * UNITS), some(UNITS, 4 * UNITS), some(4 * UNITS))

    return LstmWeights(
        some(WORDS, WIDTH),
        direction(),
        direction(),
        Dense(some(4 * UNITS, FEATURES), some(FEATURES)),
        Dense(some(FEATURES, CLASSES), some(CLASSES)),
    )


def states(inputs: np.ndarray, one: Direction) -> np.ndarray:
    def sigmoid(values: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-values)))

    hidden, cell, found = np.zeros(UNITS), np.zeros(UNITS), []
    for word in inputs:
        entry, forget, new, output = np.split(word @ one.kernel + hidden @ one.recurrent + one.bias, 4)
        cell = sigmoid(forget) * cell + sigmoid(entry) * np.tanh(new)
        hidden = sigmoid(output) * np.tanh(cell)
        found.append(hidden)
    return np.array(found)


def by_hand(row: list[int], known: LstmWeights) -> tuple[np.ndarray, np.ndarray]:
    words = known.embedding[row]
    both = np.concatenate([states(words, known.forward), states(words[::-1], known.backward)[::-1]], axis=1)
    pooled = np.concatenate([both.mean(axis=0), both.max(axis=0)])
    features = np.maximum(pooled @ known.features.kernel + known.features.bias, 0)
    scores = features @ known.scores.kernel + known.scores.bias
    return scores - np.log(np.exp(scores).sum()), features


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    return ScoringNetwork(build_lstm(weights()))


def test_rows_of_different_lengths_are_as_by_hand(network: ScoringNetwork) -> None:
    found = network.run_padded(ROWS)

    for row, scores, features in zip(ROWS, found.scores, found.features, strict=True):
        right = by_hand(row, weights())
        np.testing.assert_allclose(scores, right[0], atol=1e-5)
        np.testing.assert_allclose(features, right[1], atol=1e-5)


def test_padding_changes_nothing(network: ScoringNetwork) -> None:
    alone = [network.run_padded([row]) for row in ROWS]

    together = network.run_padded(ROWS)

    np.testing.assert_allclose(together.scores, np.concatenate([one.scores for one in alone]), atol=1e-6)


def test_no_rows_give_no_rows(network: ScoringNetwork) -> None:
    found = network.run_padded([])

    assert found.scores.shape == (0, CLASSES)
    assert found.features.shape == (0, FEATURES)


def test_an_int8_network_is_near_and_does_not_mix_rows(network: ScoringNetwork) -> None:
    quantized = ScoringNetwork(quantize_recurrences(build_lstm(weights())))

    together = quantized.run_padded(ROWS)

    np.testing.assert_allclose(together.scores, network.run_padded(ROWS).scores, atol=0.2)
    assert not np.array_equal(together.scores, network.run_padded(ROWS).scores)
    alone = [quantized.run_padded([row]) for row in ROWS]
    np.testing.assert_array_equal(together.scores, np.concatenate([one.scores for one in alone]))


def test_many_rows_are_run_in_parts(network: ScoringNetwork) -> None:
    rows = [ROWS[number % 3] for number in range(130)]

    found: Scored = network.run_padded(rows)

    np.testing.assert_allclose(found.scores[129], network.run_padded([rows[129]]).scores[0], atol=1e-6)
