"""Rules that users write, generic and of the genomic domain, against plain readings of the filled sequences."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.constraints import joined
from maskseq.errors import DataError, UsageError
from maskseq.infill.rules import NamedRule, bounds, follows, never_falls, read_interval, total
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Task
from maskseq.infill.windows import fill_records
from maskseq.predict.protocol import of_ids
from maskseq.tokenizer import Tokenizer
from maskseq.types import ABSENT, OTHER, Encoded, Field, LegalCells, ListRecord
from maskseq_genomics.genetic_code import genetic_code
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence as Dna

CONFIG = InfillConfig(order="ancestral", steps=5, temperature=1.0, samples=4)


class Log(Tokenizer[ListRecord]):
    fields = (
        Field(name="activity", tokens=("start", "check", "end"), controls=(OTHER,)),
        Field(name="hours", tokens=("0", "1", "4", "9"), controls=(ABSENT,), centres=(0.0, 1.0, 4.0, 9.0)),
    )

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


@of_ids
def anything(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A model with strong opinions of no use."""
    width = 5 if sequences[0].shape[1] == 2 else 4
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        logits = np.random.default_rng(ids.ravel()).normal(size=(len(ids), 2, width))[tuple(requested.T)] * 3
        answers.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return answers


def fill_with(tokenizer: Tokenizer, encoded: Encoded, rules: list[str], context: int = 256) -> list[np.ndarray]:
    made = [NamedRule.parse(rule).about(tokenizer, encoded) for rule in rules]
    holes = ~tokenizer.vocabulary.known(encoded.ids)
    task = Task("r", encoded, holes, made)
    (filled,) = fill_records(anything, [task], CONFIG, vocabulary=tokenizer.vocabulary, context=context)
    return [filled.fill.written(encoded.ids, sample) for sample in range(4)]


def test_reading_of_rules() -> None:
    assert NamedRule.parse("gc=0.4..0.6@chr1:1,001-1,200") == NamedRule("gc", "0.4..0.6", "chr1", 1000, 1200)
    assert NamedRule.parse("motif=NNRYN@chr1:7") == NamedRule("motif", "NNRYN", "chr1", 6, 7)
    assert NamedRule.parse("non-decreasing=hours") == NamedRule("non-decreasing", "hours", "", 0, None)
    assert NamedRule.parse("total=hours:9..10@case 7") == NamedRule("total", "hours:9..10", "case 7", 0, None)
    assert NamedRule.parse("bounds=hours:1..4@:2-3") == NamedRule("bounds", "hours:1..4", "", 1, 3)
    for wrong in ("gc", "=3", "gc=0.4..0.6@chr1:0-7", "gc=0.4..0.6@chr1:9-7"):
        with pytest.raises(UsageError):
            NamedRule.parse(wrong)


@pytest.mark.parametrize(
    ("text", "interval"), [("2..5", (2, 5)), ("..5", (-np.inf, 5)), ("2..", (2, np.inf)), ("-1.5", (-1.5, -1.5))]
)
def test_reading_of_intervals(text: str, interval: tuple[float, float]) -> None:
    assert read_interval(text) == interval
    with pytest.raises(UsageError, match="no interval"):
        read_interval(text + "x")


DNA = NucleotideTokenizer()
RECORD = Dna(key="r", residues=b"ATGACC" + b"N" * 60 + b"GGTTAA")


def text(ids: np.ndarray) -> str:
    return DNA.decode(ids)


def test_motif_gc_and_reading_frame_hold_together() -> None:
    encoded = DNA.encode(RECORD)
    rules = ["motif=WNRYGGNSW@r:20-28", "gc=0.55..0.6@r:1-66", "open-frame=11@r:1-66"]
    for ids in fill_with(DNA, encoded, rules):
        bases = text(ids)
        assert re.fullmatch("[AT].[AG][CT]GG.[CG][AT]", bases[19:28])
        assert 0.55 <= sum(base in "GC" for base in bases[:66]) / 66 <= 0.6
        codons = [bases[i : i + 3] for i in range(0, 66, 3)]
        assert not {"TAA", "TAG", "TGA"} & set(codons)
        assert (bases[:6], bases[66:]) == ("ATGACC", "GGTTAA")


def test_rules_hold_across_the_chunks_of_a_long_record() -> None:
    encoded = DNA.encode(Dna(key="r", residues=(b"ACGGT" + b"N" * 13) * 6))
    for ids in fill_with(DNA, encoded, ["gc=0.5..0.5@r:1-108", "open-frame=1@r:1-108"], context=32):
        bases = text(ids)
        assert sum(base in "GC" for base in bases) == 54
        assert not {"TAA", "TAG", "TGA"} & {bases[i : i + 3] for i in range(0, 108, 3)}


@pytest.mark.parametrize("number", [1, 2, 6])
def test_a_frame_is_open_exactly_if_its_code_reads_no_stop(number: int) -> None:
    frame = NamedRule("open-frame", str(number), "", 0, None).about(DNA, Encoded(np.zeros((6, 1), np.uint8)))
    stops = {codon for codon, amino_acid in genetic_code(number).items() if amino_acid == "*"}
    state_of = np.asarray(frame.next)
    for bases in itertools.product(range(4), repeat=3):
        state = 0
        for base in bases:
            state = state_of[state, base]
        assert (state == -1) == ("".join("ACGT"[b] for b in bases) in stops)
        assert state in (-1, 0)


def test_what_the_known_bases_rule_out_is_said_before_anything_is_filled() -> None:
    encoded = DNA.encode(RECORD)
    with pytest.raises(UsageError, match=r"known value at position 2\b"):
        fill_with(DNA, encoded, ["motif=ACG@r:1-3"])
    with pytest.raises(UsageError, match="ends before position 74"):
        fill_with(DNA, encoded, ["motif=ANNNN@r:70"])
    with pytest.raises(UsageError, match="no value is allowed"):
        fill_with(DNA, DNA.encode(Dna(key="r", residues=b"TANNNN")), ["motif=RGG@r:3", "open-frame=1@r:1-6"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("motif=ACXGT@r:7", "not made of the IUPAC letters"),
        ("motif=ACGT@r:7-9", "has 4 letters, but the stretch that it is to fill 3"),
        ("gc=40..60@r:1-9", "shares from 0 to 1"),
        ("gc=0.41..0.49@r:1-2", "no number of G and C among 2 bases"),
        ("open-frame=7@r:1-9", "no genetic code '7'"),
        ("gcc=0.4..0.6", "did you mean 'gc'"),
        ("bounds=hours:1..2", "no field 'hours'; the fields are base"),
        ("bounds=base:1..2", "no values in physical units"),
        ("gc=0.1..0.9@r:99-100", "no position lies within the units 99-100"),
    ],
)
def test_rules_that_cannot_be_read_say_why(rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NamedRule.parse(rule).about(DNA, DNA.encode(RECORD))


LOG = Log()
CASE = Encoded(np.array([(0, 4), (4, 5), (4, 5), (4, 5), (4, 5), (4, 5), (2, 5)], dtype=np.uint8))


def test_a_process_graph_a_total_and_bounds_hold_together(tmp_path: Path) -> None:
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps({"": ["start"], "start": ["check"], "check": ["check", "end"], "end": ["start"]}))
    rules = [f"follows=activity:{graph}", "total=hours:20..22", "bounds=hours:1.."]
    graph_of = json.loads(graph.read_text())
    for ids in fill_with(LOG, CASE, rules):
        activities = [LOG.fields[0].token(i) for i in ids[:, 0]]
        assert all(b in graph_of[a] for a, b in itertools.pairwise(activities))
        hours = [LOG.fields[1].centres[i] for i in ids[:, 1] if i < 4]
        assert 20 <= sum(hours) <= 22
        assert min(hours) >= 1


def test_a_monotone_column_passes_over_controls() -> None:
    ids = CASE.ids.copy()
    ids[3, 1] = 2
    for filled in fill_with(LOG, Encoded(ids), ["non-decreasing=hours"]):
        values = [i for i in filled[:, 1].tolist() if i < 4]
        assert values == sorted(values)


def test_a_graph_that_is_none_is_a_data_error(tmp_path: Path) -> None:
    graph = tmp_path / "graph.json"
    for broken in ("{", '["a"]', '{"a": "b"}', '{"a": [1]}'):
        graph.write_text(broken)
        with pytest.raises(DataError, match=r"graph\.json"):
            NamedRule.parse(f"follows=activity:{graph}").about(LOG, CASE)
    with pytest.raises(UsageError, match="'pause', which field 'activity' does not have"):
        follows(LOG.fields[0], {"start": ["pause"]})


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_field_rules_accept_what_their_names_say(ids: list[int]) -> None:
    field = LOG.fields[1]
    values = [field.centres[i] for i in ids if i < 4]
    column = np.array(ids)[:, None]
    last, before = np.array([[len(ids) - 1, 0]]), column.copy()
    before[-1] = field.mask_id

    def accepts(rule: object) -> bool:
        return bool(rule(before, last, np.ones((1, 5), bool))[0, ids[-1]])

    assert accepts(never_falls(field)) == (values == sorted(values))
    assert accepts(total(field, 3.0, 11.0)) == (3 <= sum(values) <= 11)
    allowed = bounds(field, 0, 1.0, 4.0, 0, len(ids)).allowed
    assert [bool(allowed[0, i]) for i in range(5)] == [False, True, True, False, True]


def test_automata_about_the_same_stretch_are_joined() -> None:
    encoded = DNA.encode(RECORD)
    rules = [
        NamedRule.parse(rule).about(DNA, encoded)
        for rule in ("gc=0.1..0.5@r:1-66", "open-frame=1@r:1-66", "gc=0.2..0.9@r:4-20", "motif=ACG@r:9")
    ]
    assert sum(isinstance(rule, LegalCells) for rule in rules) == 1
    assert len(joined([rule for rule in rules if not isinstance(rule, LegalCells)])) == 2
