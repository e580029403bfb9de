"""Near-copies among records are found, on either strand, and stand in one part: against counting all words plainly."""

import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from maskseq.cli import app
from maskseq.corpus.build import build_from_records
from maskseq.corpus.near_copies import near_copies
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.tokenizer import Tokenizer
from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.protein import ProteinTokenizer
from maskseq_genomics.sequence import Sequence

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def turned(text: str) -> str:
    return text.translate(COMPLEMENT)[::-1]


def mutated(text: str, every: int) -> str:
    letters = list(text)
    for at in range(every // 2, len(letters), every):
        letters[at] = {"A": "C", "C": "G", "G": "T", "T": "A", "N": "N"}[letters[at]]
    return "".join(letters)


def random_text(rng: np.random.Generator, n: int) -> str:
    return "".join(rng.choice(list("ACGT"), n))


def shared(first: str, second: str) -> float:
    """The share of the words of the one with fewer that the other has, on either strand."""
    sets = [
        {min(text[i : i + 31], turned(text[i : i + 31])) for i in range(len(text) - 30) if "N" not in text[i : i + 31]}
        for text in (first, second)
    ]
    return len(sets[0] & sets[1]) / min(map(len, sets))


def records(texts: Mapping[object, str]) -> list[Sequence]:
    return [Sequence(key=str(key), residues=text.encode()) for key, text in texts.items()]


def groups(texts: list[str], tokenizer: Tokenizer[Any], share: float = 0.9) -> list[int]:
    units = np.array([len(text) for text in texts])
    encoded = [tokenizer.encode(record).ids for record in records(dict(enumerate(texts)))]
    found = near_copies(tokenizer, units, lambda n: [encoded[n]], share)
    return list(range(len(texts))) if found is None else found.tolist()


def family(seed: int) -> list[str]:
    """Unrelated sequences, and relatives of the first of different nearness: mutated, turned, cut, inserted into."""
    rng = np.random.default_rng(seed)
    first, second = random_text(rng, 3000), random_text(rng, 2000)
    return [
        first,
        second,
        mutated(first, 1000),
        turned(mutated(first, 900)),
        first[700:1900],
        first[:1500] + random_text(rng, 40) + first[1500:],
        mutated(first, 120),  # about three words of four
        second[:1000] + random_text(rng, 1000),  # half of them
        first[:400],  # too short to be compared
        turned(second)[:1990] + "N" * 60,
        random_text(rng, 700),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_that_counting_finds(seed: int) -> None:
    texts = family(seed)
    expected = list(range(len(texts)))
    for i, j in combinations([n for n, text in enumerate(texts) if len(text) >= 500], 2):
        if shared(texts[i], texts[j]) > 0.9:
            low, high = sorted((expected[i], expected[j]))
            expected = [low if each == high else each for each in expected]
    assert groups(texts, NucleotideTokenizer()) == expected
    assert len(set(expected)) < len(expected) - 3


@pytest.mark.parametrize(
    "tokenizer",
    [
        KmerTokenizer(k=6),
        KmerTokenizer(k=6, phase=2),
        KmerTokenizer(k=4, overlapping=True),
        BpeTokenizer(merges=(("A", "C"), ("G", "T"), ("AC", "GT"))),
    ],
    ids=repr,
)
def test_tokenizers_of_words_find_the_same(tokenizer: Tokenizer[Any]) -> None:
    """Wherever their words lie: a copy is cut and turned, so that it is divided otherwise."""
    assert groups(family(0)[:8], tokenizer) == groups(family(0)[:8], NucleotideTokenizer())


def test_proteins_have_one_direction() -> None:
    rng = np.random.default_rng(1)
    first = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 800))
    assert groups([first, first[::-1], first[:700] + "*"], ProteinTokenizer()) == [0, 1, 0]


def test_the_share_can_be_chosen() -> None:
    texts = family(3)
    assert groups(texts, NucleotideTokenizer(), share=0.6)[6] == 0
    assert groups(texts, NucleotideTokenizer())[6] == 6


@pytest.mark.parametrize("seed", range(6))
def test_they_stand_in_one_part(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    texts = {f"r{i}": random_text(rng, 600) for i in range(20)}
    texts |= {f"r{i}'": turned(mutated(texts[f"r{i}"], 601)) for i in range(20)}
    split = SplitConfig(by="record", selection=0.2, test=0.2, seed=seed)
    corpus = build_from_records(records(texts), output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=split)
    assert corpus.manifest["split"]["near_copies"] == 20
    sides = sides_of(corpus)
    assert all(sides[f"r{i}"] == sides[f"r{i}'"] for i in range(20))
    assert len(set(sides.values())) == 3


def sides_of(corpus: Corpus) -> dict[str, str]:
    """The part of each record."""
    table = np.load(Path(str(corpus.path)) / corpus.manifest["sequences"]["file"])
    names = [
        name
        for name in ("train", "validation", "test")
        for _ in range((corpus.manifest["split"].get(name) or {"sequences": 0})["sequences"])
    ]
    return {corpus.record_key(int(record)): name for record, name in zip(table[2], names, strict=True)}


def test_a_copy_of_a_record_with_a_held_out_region_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    genome = random_text(rng, 40_000)
    texts = {"genome": genome, "strain": mutated(genome, 500), "plasmid": random_text(rng, 4_000)}
    corpus = build_from_records(
        records(texts),
        output=tmp_path / "c",
        tokenizer=NucleotideTokenizer(),
        split=SplitConfig(by="region", regions=("genome:10001-12000",), guard=100),
    )
    assert corpus.manifest["split"]["left_out"]["duplicates"] == 1
    assert set(sides_of(corpus)) == {"genome", "plasmid"}


def test_corpora_without_any_are_what_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = {f"r{i}": random_text(rng, 600) for i in range(12)}
    corpora = [
        build_from_records(
            records(texts),
            output=tmp_path / f"{share}",
            tokenizer=NucleotideTokenizer(),
            split=SplitConfig(by="record", selection=0.3, near_copies=share),
        )
        for share in (0.9, 1.0)
    ]
    assert "near_copies" not in corpora[0].manifest["split"]
    assert "near_copies" not in corpora[0].manifest["split"]["config"]
    assert sides_of(corpora[0]) == sides_of(corpora[1])


def test_a_share_is_a_share() -> None:
    for share in (0.0, 1.1, -1.0):
        with pytest.raises(UsageError, match="near_copies"):
            SplitConfig(near_copies=share)


def test_init_and_tokenize_tell_how_many(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = {f"r{i}": random_text(rng, 600) for i in range(30)}
    texts["copy"] = mutated(texts["r3"], 601)
    (tmp_path / "g.fa").write_text("".join(f">{key}\n{text}\n" for key, text in texts.items()))
    reported = CliRunner().invoke(app, ["init", str(tmp_path / "g.fa"), "-o", str(tmp_path / "r.toml")])
    assert reported.exit_code == 0, reported.output
    assert "near-copies" in reported.output
    built = CliRunner().invoke(app, ["tokenize", str(tmp_path / "r.toml"), "--output", str(tmp_path / "c")])
    assert built.exit_code == 0, built.output
    assert "near-copies" in built.output


MEASURED = """
import sys, time
from pathlib import Path
from corpora import memory
from maskseq.corpus.near_copies import STRETCH, WORD, near_copies
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
import numpy as np
tokenizer = NucleotideTokenizer()
encoded = [tokenizer.encode(record).ids for record in Fasta().read(Path(sys.argv[1]))]
before, begin = memory("VmRSS"), time.process_time()
def read(n):
    return (encoded[n][at : at + STRETCH + WORD - 1] for at in range(0, len(encoded[n]), STRETCH))
found = near_copies(tokenizer, np.array([len(ids) for ids in encoded]), read, 0.9)
print(sum(map(len, encoded)), time.process_time() - begin, memory("VmHWM") - before)
"""


@pytest.mark.parametrize(
    "name",
    ["ecoli_K12_MG1655_contigs.fasta.gz", "ecoli_like_454AllContigs.fna.gz", "yeast_S288C_R64_chrI-X_Mito.fa.gz"],
)
def test_real_genomes_take_seconds_and_little_memory(name: str, shared_data: Path) -> None:
    command = [sys.executable, "-c", MEASURED, str(shared_data / "genomics" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    letters, seconds, grown = map(float, done.stdout.split())
    assert seconds / letters < 5e-6  # measured: 0.5 to 1 microseconds a letter
    assert grown < 200e6
