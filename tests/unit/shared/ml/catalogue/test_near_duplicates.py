"""Finding twins."""

from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.catalogue.near_duplicates import connected, find_links, text_keys

WORDS = ["pompe", "de", "piscine", "hors", "sol", "avec", "filtre", "et", "tuyau", "livraison", "rapide", "garantie"]


def linked(*texts: tuple[str, str], photos: list[int] | None = None) -> set[tuple[int, int]]:
    keys = text_keys([ProductText(*text) for text in texts])
    hashes = np.array(photos or [0] * len(texts), dtype=np.uint64)
    links = find_links(keys, hashes, np.ones(len(texts), dtype=np.bool_))
    return {(min(pair), max(pair)) for pair in zip(links.left.tolist(), links.right.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Coussin", ""), ("COUSSIN !", "")),
        (("Étagère d'été", ""), ("etagere d ete", "")),
        (("Figurine dragon rouge n° 12", ""), ("Figurine dragon rouge n° 345", "")),
        ((" ".join(WORDS), ""), (" ".join([*WORDS[::-1], "neuf"]), "")),
        ((WORDS[0], " ".join(WORDS[1:])), (" ".join(WORDS[:6]), " ".join(WORDS[6:]))),
    ],
)
def test_texts_that_say_the_same_are_twins(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert linked(one, other) == {(0, 1)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Carte 12", ""), ("Carte 13", "")),
        (("Coussin bleu", ""), ("Coussin vert", "")),
        ((" ".join(WORDS), ""), (" ".join(WORDS[:6]), "chaise de bureau en bois massif")),
        (("", ""), ("", "")),
        (("12", ""), ("34", "")),
    ],
)
def test_texts_that_differ_are_not(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert linked(one, other) == set()


def test_the_same_photo_links_and_no_photo_does_not() -> None:
    assert linked(("a", ""), ("b", ""), ("c", ""), ("d", ""), photos=[7, 7, 0, 0]) == {(0, 1)}


def test_a_photo_that_hundreds_share_links_nobody() -> None:
    assert linked(*((f"w{i}", "") for i in range(201)), photos=[9] * 201) == set()


def test_links_have_a_row_that_came_at_one_end() -> None:
    keys = text_keys([ProductText("Coussin", "")] * 4)
    links = find_links(keys, np.zeros(4, dtype=np.uint64), np.array([False, False, True, True]))
    came = {2, 3}
    pairs = list(zip(links.left.tolist(), links.right.tolist(), strict=True))
    assert all(came & set(pair) for pair in pairs)
    assert {one for pair in pairs for one in pair} == {0, 1, 2, 3}


def test_jaccard_is_verified_and_found_among_thousands() -> None:
    chance = np.random.default_rng(3)
    vocabulary = ["".join(chance.choice(list("abcdefghijklmnop"), 6)) for _ in range(500)]
    texts = [ProductText(" ".join(chance.choice(vocabulary, 30, replace=False)), "") for _ in range(1000)]
    twins = [ProductText(" ".join(text.title.split()[2:]), "") for text in texts[:100]]
    links = find_links(text_keys(texts + twins), np.zeros(1100, dtype=np.uint64), np.ones(1100, dtype=np.bool_))
    found = set(zip(links.left.tolist(), links.right.tolist(), strict=True))
    wanted = {(i, 1000 + i) for i in range(100)}
    assert len(found & wanted) >= 98
    assert not found - wanted


def test_connected_gives_the_smallest_node_of_each_component() -> None:
    roots = connected(7, np.array([5, 4, 3, 1]), np.array([4, 3, 2, 6]))
    assert roots.tolist() == [0, 1, 2, 2, 2, 2, 1]
