"""How long masking takes a piece, and what that is beside transformers' collator, which neither counts nor widens.

    python benchmarks/masking.py

Prints the least CPU time over many short repetitions, so that other work on the machine does not count.
"""

import time
import timeit
import warnings
from collections.abc import Callable

import numpy as np

from maskseq.masking.config import Infill, MaskingConfig, Replacement, Spans, Tokens
from maskseq.masking.plan import mask_segment
from maskseq.types import Field

CONFIGS = {
    "tokens, 80/10/10": MaskingConfig(),
    "tokens, all [MASK]": MaskingConfig(tokens=Tokens(replacement=Replacement())),
    "spans": MaskingConfig(tokens=Tokens(weight=0.0), spans=Spans(weight=1.0)),
    "infill": MaskingConfig(tokens=Tokens(weight=0.0), infill=Infill(weight=1.0)),
    "tokens, positions": MaskingConfig(mode="position"),
}
SEGMENTS = {
    "200 bases": (200, 1, 1),
    "1,024 bases": (1024, 1, 1),
    "8,192 bases": (8192, 1, 1),
    "200 overlapping 6-mers": (200, 1, 6),
    "200 steps of 7 channels": (200, 7, 1),
}
"""Length, fields, units that a cell depends on."""


def microseconds(call: Callable[[], object]) -> float:
    """CPU time of one call: the least of 200 means over 10."""
    return min(timeit.repeat(call, number=10, repeat=200, timer=time.process_time)) * 1e5


def ours(length: int, n_fields: int, width: int, config: MaskingConfig) -> float:
    rng = np.random.default_rng(0)
    fields = [Field(name=f"channel {n}", tokens=tuple("ACGT")) for n in range(n_fields)]
    ids = rng.integers(0, 4, (length, n_fields)).astype(np.uint8)
    start = np.broadcast_to(np.arange(length)[:, None], ids.shape)
    units, scorable = np.stack([start, start + width], axis=-1), np.ones(ids.shape, dtype=bool)
    return microseconds(lambda: mask_segment(ids, units, scorable, fields, config, rng=rng))


def collator() -> float:
    """The same 80/10/10 for 8,192 tokens in one tensor, by DataCollatorForLanguageModeling."""
    import torch
    from tokenizers import Tokenizer, models  # the one of Hugging Face
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    words = {"A": 0, "C": 1, "G": 2, "T": 3, "[MASK]": 4, "[PAD]": 5}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="A")), mask_token="[MASK]", pad_token="[PAD]"
    )
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    ids = torch.randint(0, 4, (1, 8192))
    return microseconds(lambda: collate.torch_mask_tokens(ids.clone()))


def main() -> None:
    print(f"{'CPU microseconds a segment':<26}", *(f"{name:>20}" for name in CONFIGS))
    for name, segment in SEGMENTS.items():
        print(f"{name:<26}", *(f"{ours(*segment, config):>20,.0f}" for config in CONFIGS.values()))
    warnings.simplefilter("ignore")
    theirs, mine = collator(), ours(8192, 1, 1, MaskingConfig())
    print(f"\n8,192 tokens, 80/10/10: transformers {theirs:,.0f}, maskseq {mine:,.0f}: {mine / theirs:.1f} × the time")


if __name__ == "__main__":
    main()
