"""How fast genomes are read and tokenized on one core, beside readers and k-mer code in wide use.

    OMP_NUM_THREADS=1 python benchmarks/genomics_speed.py [GENOME.fa[.gz]]

Prints CPU time (best of five) for the given genome, by default the one of the recipes, and MB of letters a second.
Peers that are not installed (`pip install dnaio biopython pyfastx`) are left out.
"""

import argparse
import gzip
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.codon import CodonTokenizer
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.twobit import TwoBit

SAMPLE = Path(__file__).resolve().parents[1] / "recipes" / "samples" / "hpylori_SJM180.fasta.gz"


def main(genome: Path) -> None:
    records = list(Fasta().read(genome))
    n_bases = sum(map(len, records))
    print(f"{genome.name}: {len(records)} record(s), {n_bases:,} letters")
    with tempfile.TemporaryDirectory() as name:
        plain, packed, twobit = (Path(name) / f"genome.{end}" for end in ("fa", "fa.gz", "2bit"))
        Fasta().write(records, plain)
        packed.write_bytes(gzip.compress(plain.read_bytes(), 6))
        for path in (plain, packed):
            kind = "FASTA.gz" if path is packed else "FASTA"
            report(f"read {kind}", n_bases, lambda: list(Fasta().read(path)))  # noqa: B023
            for peer, read in PEERS.items():
                if installed(peer):
                    report(f"    by {peer}", n_bases, lambda: read(path))  # noqa: B023
        report("write FASTA", n_bases, lambda: Fasta().write(records, plain))
        TwoBit().write(records, twobit)
        report("read 2bit", n_bases, lambda: list(TwoBit().read(twobit)))
        report("FASTA.gz to ids", n_bases, lambda: [NucleotideTokenizer().encode(r) for r in Fasta().read(packed)])

    for name, tokenizer in TOKENIZERS.items():
        report(f"tokenize: {name}", n_bases, lambda: [tokenizer.encode(record) for record in records])  # noqa: B023
    report("    overlapping 6-mers by DNABERT's loop", n_bases, lambda: [dnabert_kmers(r.residues) for r in records])
    bpe = BpeTokenizer.fit(records, size=1024, sample=500_000)
    report("tokenize: BPE of 1,024", n_bases, lambda: [bpe.encode(record) for record in records])


def report(what: str, n_bases: int, do: Callable[[], object], runs: int = 5) -> None:
    times = []
    for _ in range(runs):
        start = time.process_time()
        do()
        times.append(time.process_time() - start)
    print(f"{what:42} {min(times):8.3f} s {n_bases / min(times) / 1e6:8,.0f} MB/s")


def installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def read_dnaio(path: Path) -> Any:
    with importlib.import_module("dnaio").open(path, open_threads=0) as file:
        return [record.sequence for record in file]


def read_biopython(path: Path) -> Any:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return list(importlib.import_module("Bio.SeqIO.FastaIO").SimpleFastaParser(file))


def read_pyfastx(path: Path) -> Any:
    return list(importlib.import_module("pyfastx").Fasta(str(path), build_index=False))


PEERS = {"dnaio": read_dnaio, "Bio": read_biopython, "pyfastx": read_pyfastx}
TOKENIZERS = {
    "bases": NucleotideTokenizer(),
    "bases with soft mask": NucleotideTokenizer(soft_mask_weight=0.1),
    "6-mers side by side": KmerTokenizer(k=6),
    "overlapping 6-mers": KmerTokenizer(k=6, overlapping=True),
    "codons": CodonTokenizer(coding=False),
}


def dnabert_kmers(residues: bytes, k: int = 6) -> list[str]:
    """What DNABERT's `seq2kmer` does before a vocabulary is looked up."""
    text = residues.decode()
    return [text[i : i + k] for i in range(len(text) + 1 - k)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path, nargs="?", default=SAMPLE)
    main(parser.parse_args().genome)
