"""Initial weights of a CamemBERT: from a hub, from a local folder, or random. Runs in the torch environment.

Weights never run code and are not unpickled: safetensors, or a checkpoint that torch reads as plain tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.core.files import sha256_of
from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.networks.camembert.torch_process import WeightsUnavailable
from rayonnage_shared.ml.networks.subwords import LONGEST_PIECE, Subwords

Source = Literal["hub", "folder", "none"]

_MODEL_TYPE = "camembert"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER_FILES = ("tokenizer.json", "sentencepiece.bpe.model")
_SMALL_FILES = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_HUB_TIMEOUT_S = 10.0
_POSITIONS_KEPT = 2  # RoBERTa counts positions from padding_idx + 1
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_HEAD_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which weights: `name` on the hub, or in a local `folder`; `revision` is the hub's."""

    source: Source
    name: str
    folder: Path | None
    hub_cache: Path | None
    revision: str | None = None

    def facts(self) -> dict[str, str]:
        """Return the facts for the manifest."""
        known = {"source": self.source, "name": self.name, "revision": self.revision}
        return {name: value for name, value in known.items() if value}


@dataclass(frozen=True)
class Start:
    """An unfitted classifier (a CamembertForSequenceClassification), its tokenizer, and its origin."""

    model: Any
    subwords: Subwords
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Small:
    """The size of a network trained from scratch."""

    layers: int
    width: int
    vocabulary: int


def begin(
    beginning: Beginning, small: Small, texts: Sequence[ProductText], *, n_classes: int, max_tokens: int, work: Path
) -> Start:
    """Return the untrained classifier for the result of `find_weights`.

    A network without weights gets its word pieces from `texts`, the training rows. They are kept in `work`, so that a
    resumed training has the same. The caller seeds torch, since the head is initialised here. Raises BadInput.
    """
    if beginning.source == "none":
        return _from_scratch(small, texts, n_classes=n_classes, max_tokens=max_tokens, kept=work / "tokenizer.json")
    assert beginning.folder is not None
    return _pretrained(beginning.folder, beginning.facts(), n_classes, max_tokens)


def _pretrained(folder: Path, facts: dict[str, Any], n_classes: int, max_tokens: int) -> Start:
    import torch
    from transformers import CamembertForSequenceClassification, CamembertTokenizer

    weights = _first_of(folder, _WEIGHT_FILES)
    assert weights is not None
    # transformers converts also from SentencePiece's file alone.
    tokenizer = CamembertTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = CamembertForSequenceClassification.from_pretrained(
        str(folder),
        num_labels=n_classes,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        use_safetensors=weights.suffix == ".safetensors",
    )
    document = tokenizer.backend_tokenizer.to_str()
    return Start(model, Subwords(document, max_tokens), {**facts, "file": weights.name, "sha256": sha256_of(weights)})


def _from_scratch(small: Small, texts: Sequence[ProductText], *, n_classes: int, max_tokens: int, kept: Path) -> Start:
    from transformers import CamembertConfig, CamembertForSequenceClassification

    if not kept.exists():
        unfinished = kept.with_suffix(".part")
        unfinished.write_text(learn_word_pieces(texts, small.vocabulary), encoding="utf-8")
        unfinished.replace(kept)
    subwords = Subwords(kept.read_text(encoding="utf-8"), max_tokens)
    numbers = {name: _SPECIAL.index(name) for name in _SPECIAL}
    config = CamembertConfig(
        vocab_size=subwords.size,
        hidden_size=small.width,
        num_hidden_layers=small.layers,
        num_attention_heads=small.width // _HEAD_WIDTH,
        intermediate_size=4 * small.width,
        max_position_embeddings=max_tokens + _POSITIONS_KEPT,
        type_vocab_size=1,
        pad_token_id=numbers["<pad>"],
        bos_token_id=numbers["<s>"],
        eos_token_id=numbers["</s>"],
        num_labels=n_classes,
    )
    return Start(CamembertForSequenceClassification(config), subwords, {"source": "none"})


def learn_word_pieces(texts: Sequence[ProductText], size: int) -> str:
    """Return a `tokenizer.json` of at most `size` word pieces, the same for the same texts; lower case, for few texts.

    Byte-pair encoding instead of CamemBERT's unigram model, which takes 40 s for 3,756 real products and differs in
    each run; this takes 2 s.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106 - a word piece
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(_SPECIAL),
        max_token_length=LONGEST_PIECE,
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for text in texts for part in text if part), trainer)
    document: str = tokenizer.to_str()
    return document


def find_weights(beginning: Beginning, max_tokens: int) -> Beginning:
    """Return the weights as files in a folder, checked to support `max_tokens`, but not loaded yet.

    Files fetched from a hub are cached. Raises BadInput, WeightsUnavailable.
    """
    if beginning.source == "none":
        return beginning
    if beginning.source == "hub":
        folder = _snapshot(beginning.name, beginning.hub_cache)
        beginning = replace(beginning, folder=folder, revision=folder.name)
    assert beginning.folder is not None
    _check(beginning.folder, beginning.name, max_tokens)
    return beginning


def _check(folder: Path, name: str, max_tokens: int) -> None:
    if not _is_whole(folder):
        raise BadInput(
            f"Weights {name!r} are incomplete: config.json, one of {' and '.join(_WEIGHT_FILES)}, and one of "
            f"{' and '.join(_TOKENIZER_FILES)} are needed."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != _MODEL_TYPE:
        raise BadInput(f"Weights {name!r} are of a {config.get('model_type')!r} network; this family takes camembert.")
    longest = int(config["max_position_embeddings"]) - _POSITIONS_KEPT
    if max_tokens > longest:
        raise BadInput(f"Parameter 'max_tokens' may be at most {longest} with weights {name!r}, not {max_tokens}.")


def _snapshot(name: str, cache: Path | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, cache_dir=cache, local_files_only=True))
        if _is_whole(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        offered = {file.rfilename for file in HfApi().model_info(name, timeout=_HUB_TIMEOUT_S).siblings or ()}
        weights = next((file for file in _WEIGHT_FILES if file in offered), _WEIGHT_FILES[0])
        wanted = [*_SMALL_FILES, *_TOKENIZER_FILES, weights]
        folder = Path(snapshot_download(name, cache_dir=cache, allow_patterns=wanted, etag_timeout=_HUB_TIMEOUT_S))
    except RepositoryNotFoundError as err:
        raise BadInput(
            f"The hub has no public weights {name!r}, and there is no such folder of pretrained weights."
        ) from err
    except (HTTPError, OSError) as err:
        raise WeightsUnavailable(
            f"Weights {name!r} could not be fetched from the hub ({err}). Put their files into a folder of that name "
            "below MODELS_PATH/.pretrained, or train with weights 'none'."
        ) from err
    return folder


def _is_whole(folder: Path) -> bool:
    needed = _first_of(folder, _WEIGHT_FILES), _first_of(folder, _TOKENIZER_FILES)
    return (folder / "config.json").is_file() and None not in needed


def _first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
