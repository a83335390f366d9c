"""Products as numbers of word pieces."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.networks.subwords import Subwords, padded
from tests.processor_time import relative_cost

START, PADDING, END, UNKNOWN = 0, 1, 2, 3
WORDS = {"<s>": START, "<pad>": PADDING, "</s>": END, "<unk>": UNKNOWN, "bouée": 4, "piscine": 5, "roman": 6}


def subwords(max_tokens: int = 16, words: dict[str, int] = WORDS) -> Subwords:
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Subwords(tokenizer.to_str(), max_tokens)


@pytest.mark.parametrize(
    ("title", "description", "ids"),
    [
        ("bouée piscine", "roman", [START, 4, 5, END, END, 6, END]),
        ("bouée", "", [START, 4, END]),
        ("", "roman inconnu", [START, 6, UNKNOWN, END]),
        ("", "", [START, END]),
    ],
)
def test_a_product_is_a_pair_or_the_one_text_that_it_has(title: str, description: str, ids: list[int]) -> None:
    assert subwords().ids(ProductText(title, description)) == ids


@pytest.mark.parametrize(
    ("title", "description", "kept"),
    [(3, 50, (3, 9)), (50, 3, (9, 3)), (50, 50, (6, 6)), (6, 7, (6, 6)), (6, 6, (6, 6)), (0, 50, (0, 14))],
)
def test_the_longer_text_is_cut_first(title: int, description: int, kept: tuple[int, int]) -> None:
    ids = subwords(16).ids(ProductText("bouée " * title, "roman " * description))
    assert (ids.count(4), ids.count(6)) == kept
    assert len(ids) <= 16


def test_twenty_thousand_characters_take_no_time() -> None:
    long = ProductText("x " * 10_000, "球 " * 10_000)
    reader = subwords(128)
    assert len(reader.ids(long)) == 128
    assert relative_cost(lambda: reader.ids(long), rounds=1) < 200  # 3; 26,000 with the library's own truncation


def test_a_batch_is_filled_up_with_padding() -> None:
    texts = [ProductText("bouée", ""), ProductText("bouée piscine roman", "")]
    assert subwords().padded(texts).tolist() == [[START, 4, END, PADDING, PADDING], [START, 4, 5, 6, END]]
    assert padded([[7], []], 9).tolist() == [[7], [9]]


def test_a_tokenizer_without_the_marks_is_refused() -> None:
    with pytest.raises(BadInput, match="<pad>"):
        subwords(words={word: number for word, number in WORDS.items() if word != "<pad>"})
