"""The vocabulary of a field as the files that Hugging Face's `tokenizers` reads, and what such files say is special."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskseq.model.checkpoint import read_json, write_json
from maskseq.types import MASK, OTHER, Field

PAD = "[PAD]"
BERT_SPECIAL = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}


def write_tokenizer(folder: Path, field: Field, *, max_length: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`: each token of the field is one whole word.

    How text is cut: between any two characters if all tokens are single characters ("ACGT"); else at white space; else,
    if tokens contain white space themselves, at tabs. What is not a token becomes `[OTHER]` if the field has it, else
    `[MASK]`, for it is unknown. `[PAD]` takes the id after the last.
    """
    reserved = [*field.controls, MASK, PAD]
    vocabulary = {token: i for i, token in enumerate([*field.tokens, *reserved])}
    spaced = any(character.isspace() for token in field.tokens for character in token)
    characters = all(len(token) == 1 for token in field.tokens)
    cuts: list[dict[str, Any]] = [{"type": "WhitespaceSplit"}] if not spaced else []
    if characters:
        cuts.append({"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False})
    elif spaced:
        cuts.append({"type": "Split", "pattern": {"String": "\t"}, "behavior": "Removed", "invert": False})
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": vocabulary[token], "content": token, **whole} for token in reserved],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts},
            "post_processor": None,
            "decoder": {"type": "Fuse"} if characters else None,
            "model": {
                "type": "WordLevel",
                "vocab": vocabulary,
                "unk_token": OTHER if OTHER in field.controls else MASK,
            },
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "mask_token": MASK,
            "pad_token": PAD,
            "model_max_length": max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        },
    )


@dataclass(frozen=True)
class HFTokens:
    """What the tokenizer files of a folder say; empty where there are none."""

    ids: dict[str, int]
    """By token, special ones included."""
    special: frozenset[str]
    mask: str
    """The text of the mask token."""


def read_tokens(folder: Path) -> HFTokens:
    """The tokens of a Hugging Face folder, from `tokenizer.json` or the `vocab.txt` of BERT's release or ESM-2's."""
    mask: Any = MASK
    if (folder / "tokenizer_config.json").exists():
        mask = read_json(folder / "tokenizer_config.json").get("mask_token") or MASK
    mask = mask["content"] if isinstance(mask, dict) else mask
    if (folder / "tokenizer.json").exists():
        saved = read_json(folder / "tokenizer.json")
        added = {token["content"]: token for token in saved.get("added_tokens", [])}
        listed = saved.get("model", {}).get("vocab", {})
        if isinstance(listed, list):  # Unigram: pairs of token and score
            listed = {token: i for i, (token, _) in enumerate(listed)}
        ids = {**listed, **{text: token["id"] for text, token in added.items()}}
        return HFTokens(ids, frozenset(text for text, token in added.items() if token.get("special")), mask)
    if (folder / "vocab.txt").exists():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        ids = {text: i for i, text in enumerate(lines)}
        special = {text for text in lines if text in BERT_SPECIAL or re.fullmatch(r"<\w+>", text)}
        return HFTokens(ids, frozenset(special), mask if mask in ids or "<mask>" not in ids else "<mask>")
    return HFTokens({}, frozenset(), mask)
