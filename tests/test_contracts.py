"""Every tokenizer keeps the contract: on samples of all real files of its domain, and on invented records."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.plugins import format_for
from maskseq.testing import check_tokenizer
from maskseq_events.case import ABSENT_TIME, UNKNOWN, UNKNOWN_TIME, Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.codon import CodonTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.protein import ProteinTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.patches import PatchTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

DNA = {
    "nucleotide": NucleotideTokenizer(),
    "soft mask": NucleotideTokenizer(soft_mask_weight=0.1),
    "6-mers": KmerTokenizer(),
    "6-mers from 4": KmerTokenizer(phase=4),
    "overlapping 6-mers": KmerTokenizer(overlapping=True),
    "overlapping 3-mers": KmerTokenizer(k=3, overlapping=True),
    "codons": CodonTokenizer(coding=False, frame=1),
    "codons of code 2": CodonTokenizer(coding=False, code=2),
}
GENOMES = {
    "ERR1163317_miseq_sample.fq.gz": None,
    "GUE/prom_300_tata/dev.csv": "sequence-table",
    "GUE/tf_0/dev.csv": "sequence-table",
    "ecoli_536_NC_008253.fna.gz": None,
    "ecoli_K12_MG1655.fasta.gz": None,
    "ecoli_K12_MG1655_contigs.fasta.gz": None,
    "ecoli_like_454AllContigs.fna.gz": None,
    "hpylori_SJM180.fasta.gz": None,
    "human_TATA_promoters_EPDnew.txt": "sequence-lines",
    "lambda_virus.fa.gz": None,
    "mirbase_hairpin.fa.gz": None,
    "seqkit_reads_1.fq.gz": None,
    "seqkit_reads_2.fq.gz": None,
    "yeast_S288C_R64_chrI-X_Mito.fa.gz": None,
}
LOGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bpic2012.xes.gz": ("xes", {}, {"attributes": ["org:resource", "case:AMOUNT_REQ"]}),
    "helpdesk.xes.gz": ("xes", {}, {}),
    "helpdesk_full.csv": ("event-csv", {}, {"attributes": ["Resource"], "end": False}),
    "helpdesk_tax2017_ids.csv": ("event-csv", {}, {"gap_bins": 8}),
    "sepsis.csv": ("event-csv", {"absent": ["NA", ""]}, {"attributes": ["crp", "resource"], "numeric": ["crp"]}),
    "hdfs_sessions_train.txt": ("sessions", {}, {}),
    "hdfs_sessions_abnormal.txt": ("sessions", {}, {"end": False}),
    "apache_access_elastic.log": ("textlog", {}, {"attributes": ["status", "bytes"]}),
    "loghub/Apache_2k.log": ("textlog", {"layout": "apache_error", "idle": 600}, {"templates": True}),
    "loghub/HDFS_2k.log": ("textlog", {"layout": "hdfs"}, {"templates": True, "attributes": ["component"]}),
    "loghub/OpenSSH_2k.log": ("textlog", {"layout": "syslog", "year": 2015}, {"templates": True}),
    "loghub/BGL_2k.log": ("textlog", {"layout": "bgl", "session_lines": 100}, {"templates": True}),
}
SIGNALS: dict[str, tuple[str, dict[str, Any]]] = {
    "EEGMMIDB_S001R04.edf": ("edf", {"channels": ["Fc5.", "Cz..", "Oz.."]}),
    "mne_test.edf": ("edf", {"channels": ["A1", "A3"]}),
    "ETTh1.csv": ("signal-csv", {}),
    "co2.csv": ("signal-csv", {}),
    "sunspots.csv": ("signal-csv", {}),
    "ucr/BasicMotions_TRAIN.ts": ("ts", {}),
    "ucr/GunPoint_TEST.ts": ("ts", {}),
    "ucr/ECG200_TRAIN.txt": ("ucr", {}),
    "wfdb/100.hea": ("wfdb", {}),
    "wfdb/3975656_0005.hea": ("wfdb", {}),
    "wfdb/s0010_re.hea": ("wfdb", {}),
}
SCHEMES = ("uniform", "quantile", "mulaw", "level")
N_RECORDS, STRETCH = 3, 600


def genome(path: Path, format: str | None) -> list[Sequence]:
    """The first records, and of each kind of unknown letter the first that has one; long ones cut around it."""
    chosen: list[Sequence] = []
    for number, record in enumerate(islice(format_for(path, format).read(path), 2000)):
        unknown = len(record.residues.upper().rstrip(b"ACGTU")) and record.residues.upper().translate(None, b"ACGTU")
        if number < 2 or (unknown and len(chosen) < N_RECORDS):
            at = record.residues.upper().find(unknown[:1]) if unknown else 0
            start = max(at - STRETCH // 2, 0)
            chosen.append(replace(record, residues=record.residues[start : start + STRETCH]))
    return chosen


@pytest.fixture(scope="module")
def genomes(shared_data):
    """Records of all files together: `check_tokenizer` looks closer where they are few, and takes longer."""
    return [record for file, format in GENOMES.items() for record in genome(shared_data / "genomics" / file, format)]


@pytest.mark.parametrize("name", DNA)
def test_dna_tokenizers_on_real_genomes(name, genomes):
    report = check_tokenizer(DNA[name], genomes)
    assert not set(report.skipped) - {"symmetries", "variants", "augmentations"}
    assert set(report.round_trip.values()) == {1.0}


def test_bpe_on_real_genomes(genomes):
    pytest.importorskip("tokenizers")
    from maskseq_genomics.bpe import BpeTokenizer

    report = check_tokenizer(BpeTokenizer.fit(genomes, size=256), genomes)
    assert "no leak" in report.skipped  # boundaries depend on the data; test_genomics_bpe looks closer


@pytest.mark.parametrize("code", [1, 11])
@pytest.mark.parametrize("file", ["lambda_virus.fa.gz", "yeast_S288C_R64_chrI-X_Mito.fa.gz"])
def test_proteins_of_real_genomes(file, code, shared_data):
    """Reading frames, translated: real enough letters; and every ambiguous one."""
    codons = CodonTokenizer(code=code, coding=False)
    records = []
    for record in genome(shared_data / "genomics" / file, None):
        protein = codons.translate(codons.encode(record).ids).encode()
        records += [
            Sequence(key=f"{record.key}/{i}", residues=protein[i : i + 500]) for i in range(0, len(protein), 500)
        ]
    records.append(replace(records[0], key="ambiguous", residues=b"MXBZJuo*mxbzj" * 9))
    check_tokenizer(ProteinTokenizer(), records)


@pytest.mark.parametrize("file", LOGS)
def test_events_of_real_logs(file, shared_data):
    format, options, fit = LOGS[file]
    path = shared_data / "events" / file
    cases = list(islice(format_for(path, format, **options).read(path), 200))
    by_length = sorted((case for case in cases if len(case) < 200), key=len)
    check_tokenizer(EventTokenizer.fit(cases, **fit), [*by_length[:2], *by_length[-2:], *cases[:4]][:8])


@pytest.mark.filterwarnings("ignore:channel .*bins instead of")
@pytest.mark.parametrize("file", SIGNALS)
def test_quantized_real_signals(file, shared_data):
    format, options = SIGNALS[file]
    path = shared_data / "signals" / file
    records = [r.cut(0, 300) for r in islice(format_for(path, format, **options).read(path), N_RECORDS)]
    scheme = SCHEMES[list(SIGNALS).index(file) % len(SCHEMES)]
    check_tokenizer(QuantizeTokenizer.fit(records, scheme=scheme, bins=64), records)
    check_tokenizer(PatchTokenizer.fit(records, patch=4, scheme=scheme, bins=16), records)


LETTERS = st.text("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", min_size=1, max_size=60)


@settings(max_examples=4, derandomize=True)
@given(st.lists(LETTERS, min_size=1, max_size=20), st.sampled_from(list(DNA)))
def test_dna_tokenizers_on_any_letters(texts, name):
    one_kind = [text.replace("U", "T").replace("u", "t") if {"T", "t"} & set(text) else text for text in texts]
    check_tokenizer(DNA[name], [Sequence(key=str(i), residues=text.encode()) for i, text in enumerate(one_kind)])


@settings(max_examples=4, derandomize=True)
@given(st.text("ACDEFGHIKLMNPQRSTVWYXBZJUO*acdefghxbzj", min_size=1, max_size=60))
def test_proteins_of_any_letters(letters):
    check_tokenizer(ProteinTokenizer(), [Sequence(key="any", residues=letters.encode())])


def cases() -> st.SearchStrategy[list[Case]]:
    moment = st.one_of(st.integers(0, 10**16), st.sampled_from([0, UNKNOWN_TIME, ABSENT_TIME, -(10**15), 2 * 10**17]))
    value = st.sampled_from([None, UNKNOWN, "1", "2.5", "1e300", "-0", "x", ""])
    event = st.tuples(st.sampled_from(["a", "b", "", UNKNOWN, "ü"]), moment, st.sampled_from([0, 3600, -43200]), value)
    return st.lists(st.lists(event, min_size=1, max_size=8), min_size=1, max_size=4).map(
        lambda reported: [_case(str(number), events) for number, events in enumerate(reported)]
    )


def _case(key: str, events: list[tuple[str, int, int, str | None]]) -> Case:
    activity, time, offset, values = zip(*events, strict=True)
    return Case(
        key=key,
        activity=activity,
        time=np.array(time, np.int64),
        offset=np.array(offset, np.int32),
        attributes={"value": values},
    )


@settings(max_examples=4, derandomize=True)
@given(cases())
def test_events_of_any_cases(records):
    known = _case("known", [("a", 0, 0, "1"), ("b", 60_000_000, 0, "2.5")])
    for options in ({"attributes": ["value"]}, {"attributes": ["value"], "numeric": ["value"], "end": False}):
        check_tokenizer(EventTokenizer.fit([known, *records], min_count=1, **options), records)


def recordings() -> st.SearchStrategy[np.ndarray]:
    value = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, float("nan"), 1e-300, 1e15, 5.0]))
    return st.lists(value, min_size=1, max_size=30).map(lambda reported: np.array(reported)[:, None])


@pytest.mark.filterwarnings("ignore:channel .*bins instead of")
@settings(max_examples=4, derandomize=True)
@given(recordings(), st.sampled_from(SCHEMES))
def test_quantized_signals_of_any_values(channels, scheme):
    if np.isnan(channels).all():
        return
    record = Recording(key="any", channels=channels, names=("x",))
    check_tokenizer(QuantizeTokenizer.fit([record], scheme=scheme, bins=8), [record])
