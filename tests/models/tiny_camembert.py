"""Makes a tiny CamemBERT as a hub would have it: `python tiny_camembert.py PRETRAINED TEXTS ASKED`, where torch is.

`PRETRAINED/tiny` has today's files, `PRETRAINED/tiny-old` those that came before: SentencePiece's own model, and
weights as torch saves them. Writes what transformers makes of the pairs in the file ASKED beside it, as `ids.json`.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

MAX_TOKENS = 48
POSITIONS = MAX_TOKENS + 2


def main(pretrained: Path, texts: Path, asked: Path) -> None:
    import sentencepiece  # type: ignore[import-not-found]  # it is there where torch is
    import torch
    from transformers import CamembertConfig, CamembertForMaskedLM, CamembertTokenizer

    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(json.loads(texts.read_text(encoding="utf-8"))),
        model_writer=pieces,
        model_type="unigram",
        vocab_size=500,
        num_threads=1,
        minloglevel=2,
    )
    old, new = pretrained / "tiny-old", pretrained / "tiny"
    for folder in (old, new):
        folder.mkdir(parents=True)
    (old / "sentencepiece.bpe.model").write_bytes(pieces.getvalue())
    tokenizer = CamembertTokenizer.from_pretrained(str(old))
    tokenizer.save_pretrained(str(new))
    torch.manual_seed(0)
    config = CamembertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    network = CamembertForMaskedLM(config)  # what was pretrained has no classifier
    network.save_pretrained(str(new))
    config.save_pretrained(str(old))
    torch.save(network.state_dict(), old / "pytorch_model.bin")
    ids = []
    for title, description in json.loads(asked.read_text(encoding="utf-8")):
        pair = (title, description) if title and description else (title or description,)
        ids.append(tokenizer(*pair, truncation="longest_first", max_length=MAX_TOKENS)["input_ids"])
    asked.with_name("ids.json").write_text(json.dumps(ids), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
