"""How fast data get from a file to the model on one core: tokenizing, reading, planning, masking.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python benchmarks/data_speed.py [--million-bases 20]
    python benchmarks/data_speed.py --wait-share STEPS

The first prints a table. Figures are for a second of processor time, hence per core, whatever else runs on the machine;
waiting for the disk is not in them. Each is the best of three runs. The second trains the preset `small` (d = 256) for
some steps and prints the share of their time that was spent waiting for data, as the trainer measures it: run it alone.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers  # Hugging Face's

from maskseq.corpus.build import build_corpus
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.masking.config import MaskingConfig, Spans
from maskseq.packing.packing import PackingConfig, PackingPlan
from maskseq.packing.rows import PackedRows
from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.fasta import Fasta, FastaSequence
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer

RUNS = 3
WINDOW = 1024
CONFIG = PackingConfig(row_tokens=8192, context=WINDOW)


def main(million_bases: int, wait_share: int) -> None:
    if wait_share:
        print_wait_share(wait_share)
        return
    rng = np.random.default_rng(0)
    bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), size=million_bases * 10**6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long = [
            FastaSequence(key=f"chr{i}", residues=part.tobytes(), header=b"chr")
            for i, part in enumerate(np.array_split(bases, 10))
        ]
        lengths = np.clip(rng.lognormal(np.log(160), 0.7, len(bases) // 250), 20, 5000).astype(int)
        edges = np.cumsum(lengths)
        edges = edges[edges < len(bases)]
        short = [
            FastaSequence(key=f"read{i}", residues=part.tobytes(), header=b"read")
            for i, part in enumerate(np.split(bases, edges)[:-1])
        ]
        print(f"{'what':58} {'long records':>16} {'short records':>16}")
        columns = [measure(records, folder / kind) for kind, records in (("long", long), ("short", short))]
        for what, unit in columns[0]:
            print(f"{what:58} " + " ".join(f"{column[what, unit]:>9,.1f} {unit:6}" for column in columns))
    sequences = np.clip(rng.lognormal(np.log(160), 0.7, 10**6), 1, 20_000).astype(np.int64)
    seconds = best(lambda: [block.n_rows for block in PackingPlan(sequences, CONFIG, key=(0, 0)).epoch(0)])
    n_rows = sum(block.n_rows for block in PackingPlan(sequences, CONFIG, key=(0, 0)).epoch(0))
    print(
        f"{'planning 10^6 log-normal sequences':58} {seconds:9.2f} s = {sequences.sum() / seconds / 1e6:,.0f} Mtok/s, "
        f"rows {100 * sequences.sum() / n_rows / CONFIG.row_tokens:.2f} % full"
    )


def measure(records: list[FastaSequence], folder: Path) -> dict[tuple[str, str], float]:
    """Figures for one kind of records, by name and unit."""
    folder.mkdir()
    source, tokenizer = folder / "bases.fa", NucleotideTokenizer()
    Fasta().write(records, source)
    n_bases = sum(map(len, records))
    counter = iter(range(RUNS))

    def build() -> None:
        build_corpus(
            [source], output=folder / f"{next(counter)}.corpus", tokenizer=tokenizer, split=SplitConfig(by="none")
        )

    figures = {("tokenizing bases, in memory", "MB/s"): n_bases / best(lambda: tokenizer.encode_many(records)) / 1e6}
    for name, encode in other_tokenizers(records).items():
        figures[f"    {name}", "MB/s"] = n_bases / best(lambda encode=encode: encode(records)) / 1e6
    figures["building a corpus, FASTA to disk, one worker", "MB/s"] = n_bases / best(build) / 1e6
    corpus = Corpus.open(folder / "0.corpus")
    windows = np.random.default_rng(1).integers(0, n_bases - WINDOW, size=300).tolist()
    seconds = best(lambda: [corpus.read_span(w, w + WINDOW) for w in windows])
    figures["reading random windows of 1,024, a call each", "Mtok/s"] = len(windows) * WINDOW / seconds / 1e6
    seconds = best(lambda: [corpus.read_span(at, at + (4 << 20)) for at in range(0, n_bases, 4 << 20)])
    figures["reading spans of 4 M", "Mtok/s"] = n_bases / seconds / 1e6
    for name, masking in (("tokens", MaskingConfig()), ("spans", MaskingConfig(spans=Spans(weight=1.0)))):
        rows = PackedRows(corpus, config=CONFIG, masking=masking, seed=0, symmetry=False)
        rows.row(0)
        seconds = best(lambda rows=rows: [rows.row(number) for number in range(64)])
        figures[f"rows: random windows, packed and masked ({name})", "Mtok/s"] = 64 * CONFIG.row_tokens / seconds / 1e6
    rows = PackedRows(corpus, config=CONFIG, masking=MaskingConfig(), seed=0)
    n_rows = min(rows.n_rows(), 1200)
    seconds = best(lambda: [rows.row(number) for number in range(n_rows)])
    figures["rows with reverse complements, reading included", "Mtok/s"] = n_rows * CONFIG.row_tokens / seconds / 1e6
    return figures


def other_tokenizers(records: list[FastaSequence]) -> dict[str, Callable[[list[FastaSequence]], object]]:
    """Those of ours that are not letter by letter, and what their users run elsewhere."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1024, special_tokens=[], max_token_length=16)
    theirs.train_from_iterator((record.residues[:WINDOW].decode() for record in records[:1000]), trainer)
    merges = json.loads(theirs.to_str())["model"]["merges"]
    ours = BpeTokenizer(merges=tuple((left, right) for left, right in merges))
    words = {"".join(word): i for i, word in enumerate(itertools.product("ACGT", repeat=6))}

    def dnabert(records: list[FastaSequence]) -> list[list[int]]:
        """`seq2kmer` of DNABERT (Ji et al. 2021), and the look-up of each word."""
        texts = (record.residues.decode() for record in records)
        return [[words[text[i : i + 6]] for i in range(len(text) - 5)] for text in texts]

    def hugging_face(records: list[FastaSequence]) -> list[object]:
        """In windows of 1,024 bases, as models of this kind take them."""
        texts = (record.residues.decode() for record in records)
        return theirs.encode_batch_fast([text[i : i + WINDOW] for text in texts for i in range(0, len(text), WINDOW)])

    return {
        "6-mers side by side": KmerTokenizer().encode_many,
        "overlapping 6-mers": KmerTokenizer(overlapping=True).encode_many,
        "overlapping 6-mers, the loop of DNABERT's users": dnabert,
        f"BPE of {len(ours.tokens):,} tokens": ours.encode_many,
        "the same by Hugging Face's tokenizers": hugging_face,
    }


def print_wait_share(steps: int) -> None:
    """Train `small` on random bases, by the trainer that users run."""
    from maskseq.apps.pretrain import pretrain
    from maskseq.training.events import Step

    seen: list[Step] = []
    bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), size=2 * 10**6).tobytes()
    recipe = {
        "data": {"split": {"by": "none"}},
        "tokenizer": {"name": "nucleotide"},
        "model": {"preset": "small"},
        "training": {"tokens": steps * CONFIG.row_tokens, "rows": 1, "validate_every": 0, "checkpoint_every": 0},
    }
    with tempfile.TemporaryDirectory() as name:
        pretrain(
            recipe,
            output=Path(name) / "run",
            records=[FastaSequence(key="chr", residues=bases, header=b"chr")],
            on_event=lambda event: seen.append(event) if isinstance(event, Step) else None,
        )
    seconds = np.array(
        [CONFIG.row_tokens / step.tokens_per_s for step in seen[1:]]
    )  # the first waits for the first row
    waited = np.array([step.wait_share for step in seen[1:]]) * seconds
    print(
        f"`small`, {len(seconds)} steps of {CONFIG.row_tokens:,} tokens, {seconds.mean():.2f} s each: "
        f"{100 * waited.sum() / seconds.sum():.2f} % of the time was spent waiting for data"
    )


def best(run: Callable[[], object]) -> float:
    """Processor seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(RUNS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million-bases", type=int, default=20)
    parser.add_argument("--wait-share", type=int, default=0, metavar="STEPS")
    main(**vars(parser.parse_args()))
