"""What counted experts cost and are worth: milliseconds a masked cell and bits, of each alone, on held-out records.

    OMP_NUM_THREADS=1 python benchmarks/expert_cost.py CORPUS [--part selection] [--protocol masked …] [--cells 2000]

The first half of the cells only warms the tables up (views are sorted and strengths fitted when they are first asked
for), and how long that takes is shown as well; time is that of the second half. `--training` asks about training
records, which are then left out of the counts.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.corpus.reader import Corpus
from maskseq.evaluation.protocols import Protocol
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.counted import FOR_NEXT, count
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.protocol import Example, Predict

BATCH = 32
"""Windows that are asked about at a time."""
WINDOWS = 100
"""Of a record, at most."""


def main(requested: argparse.Namespace) -> None:
    corpus = Corpus.open(requested.corpus)
    data = training_data(corpus)
    start = time.process_time()
    found = {name: each for name, each in count(data, corpus.tokenizer).items() if name not in FOR_NEXT}
    built = time.process_time() - start
    print(f"{data.n_positions:,} training positions, built in {built:.2f} s of CPU")
    part = "train" if requested.training else requested.part
    records = [(corpus.key(i), encoded) for i, encoded in corpus.each(part)]
    for name in requested.protocol:
        examples, cells, truth = masked_examples(corpus, records, name, requested.cells, requested.context)
        total = 0.0
        for expert, predict in found.items():
            bits, cost, warming = judged(predict, examples, cells, truth)
            fields = np.concatenate([each[:, 1] for each in cells])
            total += cost
            by_field = " ".join(f"{bits[fields == field].mean():.2f}" for field in range(len(corpus.tokenizer.fields)))
            figures = f"{bits.mean():7.3f} bits {cost:7.3f} ms a cell ({warming:.1f} s)"
            print(f"{name:>10} {expert:>22} {figures} | {by_field}")
        print(f"{name:>10} {'all experts':>22} {'':12} {total:7.3f} ms a cell of {len(fields):,}")


def masked_examples(corpus: Corpus, records: list[Any], name: str, n_cells: int, context: int) -> tuple[Any, Any, Any]:
    """Windows, the cells that are asked for, and what truly stands there."""
    vocabulary, rng = corpus.tokenizer.vocabulary, np.random.default_rng(0)
    found = []
    protocol = Protocol.parse(name, MaskingConfig())
    for which in rng.permutation(len(records)).tolist():
        key, encoded = records[which]
        starts = list(range(0, len(encoded), context))
        for start in starts if len(starts) < 100 else rng.choice(starts, 100):
            for masked_example in protocol.examples(
                [(key, encoded.cut(start, start + context))], corpus.tokenizer, context=context
            ):
                seen = vocabulary.masked(masked_example.truth, masked_example.masked)
                where = int(start)
                found.append(
                    (
                        Example(seen, key=key, start=where),
                        masked_example.cells,
                        masked_example.truth[tuple(masked_example.cells.T)],
                    )
                )
        if sum(len(each[1]) for each in found) > n_cells:
            break
    order = rng.permutation(len(found)).tolist()
    return tuple([found[i][column] for i in order] for column in range(3))


def judged(predict: Predict, examples: Any, cells: Any, truth: Any) -> tuple[np.ndarray, float, float]:
    """Bits of each cell, milliseconds for each of the second half, and seconds of the first half."""
    bits, spent, warming, counted = [], 0.0, 0.0, 0
    for first in range(0, len(examples), BATCH):
        part = slice(first, first + BATCH)
        start = time.process_time()
        answers = predict(examples[part], cells[part])
        if first < len(examples) // 2:
            warming += time.process_time() - start
        else:
            spent += time.process_time() - start
            counted += sum(map(len, cells[part]))
        for answer, true in zip(answers, truth[part], strict=True):
            bits.append(-answer[np.arange(len(true)), true] / np.log(2))
    return np.concatenate(bits), 1000 * spent / max(counted, 1), warming


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--part", default="selection")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--protocol", nargs="+", default=["event", "masked", "gaps-5"])
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--context", type=int, default=64)
    main(parser.parse_args())
