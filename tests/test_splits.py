"""What is held out never shares content with what is trained on, and everything that is left out is counted."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from maskseq_events.case import Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Array, Letters, Text, complement, random_texts

from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig, training_records
from maskseq.errors import UsageError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

Segment = tuple[str, int, int]


def split(tmp_path: Path, records: list[Text], **options: object) -> tuple[set[Segment], set[Segment], dict]:
    """Training and validation segments as (key, start, stop), and the report."""
    corpus = build_from_records(
        records, output=tmp_path / "c", tokenizer=Letters(), split=SplitConfig(**options), overwrite=True
    )
    return *segments(corpus), corpus.manifest["split"]


def segments(corpus: Corpus) -> list[set[Segment]]:
    return [
        {(corpus.key(i), int(corpus.starts[i]), int(corpus.starts[i] + corpus.lengths[i])) for i in indices}
        for indices in (corpus.sequences("train"), corpus.sequences("validation"))
    ]


def units(segments: set[Segment]) -> int:
    return sum(stop - start for _, start, stop in segments)


def test_by_record_every_record_is_on_one_side_and_the_share_is_kept(tmp_path: Path) -> None:
    records = random_texts(400, 60)
    train, validation, report = split(tmp_path, records, by="record", validation=0.1)
    assert train | validation == {(record.key, 0, len(record)) for record in records}
    assert not train & validation
    total = sum(map(len, records))
    assert 0.098 * total < units(validation) <= 0.1 * total
    assert report["validation"] == {"sequences": len(validation), "positions": units(validation)}
    _, other, _ = split(tmp_path, records, by="record", validation=0.1, seed=1)
    assert len(validation & other) < 0.3 * len(validation)


def test_most_records_keep_their_side_when_others_join(tmp_path: Path) -> None:
    records = random_texts(400, 60)
    _, few, _ = split(tmp_path, records[:300], by="record", validation=0.2)
    train, _, _ = split(tmp_path, records, by="record", validation=0.2)
    assert len(few & train) < 0.3 * len(few)  # 80 % would move if it were drawn afresh


def test_even_a_few_records_leave_one_to_validate(tmp_path: Path) -> None:
    records = random_texts(3, 200)
    train, validation, _ = split(tmp_path, records, by="record", validation=0.01)
    assert len(train) == 2
    assert units(validation) == min(map(len, records))
    with pytest.raises(UsageError, match="a single record cannot be split by record"):
        split(tmp_path, records[:1], by="record")


@pytest.mark.parametrize("ignore", [False, True])
def test_duplicates_and_reverse_complements_stand_on_one_side(tmp_path: Path, ignore: bool) -> None:
    originals = random_texts(100, 60, letters="abcd")
    originals = [record for record in originals if len(record) > 10]
    copies = [Text(key=f"copy of {record.key}", text=record.text) for record in originals[:40]]
    turned = [Text(key=f"turned {record.key}", text=complement(record).text) for record in originals[20:60]]
    _, validation, report = split(
        tmp_path,
        [*originals, *copies, *turned],
        by="record",
        validation=0.3,
        duplicates="ignore" if ignore else "together",
    )
    held_out = {key.split()[-1] for key, _, _ in validation}
    expected = {
        (record.key, 0, len(record)) for record in [*originals, *copies, *turned] if record.key.split()[-1] in held_out
    }
    assert (validation == expected) is not ignore
    assert report["duplicate_records"] == 80


@pytest.mark.parametrize("regions", [("long:301-500",), ("long:301-500", "long:1,501-1,502", "other:1-40")])
def test_regions_are_held_out_to_the_base_with_a_guard_gap(tmp_path: Path, regions: tuple[str, ...]) -> None:
    long, other = Text(key="long", text="abcd" * 500), Text(key="other", text="ab" * 300)
    train, validation, report = split(tmp_path, [long, other], by="region", regions=regions, guard=60)
    assert ("long", 0, 240) in train
    assert ("long", 300, 500) in validation
    if len(regions) == 1:
        assert train == {("long", 0, 240), ("long", 560, 2000), ("other", 0, 600)}
        assert validation == {("long", 300, 500)}
        assert report["left_out"]["positions"] == 120
    else:
        assert train == {("long", 0, 240), ("long", 560, 1440), ("long", 1562, 2000), ("other", 70, 600)}
        assert validation == {("long", 300, 500), ("long", 1500, 1502), ("other", 0, 40)}
    assert report["regions"][0] == {"key": "long", "first": 301, "last": 500, "guard": 60}


def test_a_region_of_the_only_record_needs_no_key(tmp_path: Path) -> None:
    train, validation, report = split(tmp_path, [Text(key="a:1-2", text="abcd" * 100)], regions=("11-20",), guard=0)
    assert (train, validation) == ({("a:1-2", 0, 10), ("a:1-2", 20, 400)}, {("a:1-2", 10, 20)})
    assert report["by"] == "region"


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (("x:1-5",), "0 records have the key 'x'"),
        (("twin:1-5",), "2 records have the key 'twin'"),
        (("1-5",), "there are 3 records"),
        (("long:5-401",), "within the record, which has the units 1-400"),
        (("long:0-4",), "within the record"),
        (("long:9-4",), "within the record"),
        (("long",), "not of the form"),
        (("long:1-9", "long:9-20"), "overlap"),
        (("long:1-400",), None),
    ],
)
def test_regions_that_make_no_sense_are_refused(tmp_path: Path, regions: tuple[str, ...], message: str | None) -> None:
    records = [Text(key="long", text="abcd" * 100), Text(key="twin", text="ab" * 9), Text(key="twin", text="ba" * 9)]
    if message is None:  # a whole record is a region, too
        _, validation, report = split(tmp_path, records, regions=regions)
        assert validation == {("long", 0, 400)}
        assert report["repeated_keys"] == 1
        return
    with pytest.raises(UsageError, match=message):
        split(tmp_path, records, regions=regions)


def test_no_kmer_of_training_reaches_into_the_held_out_bases(tmp_path: Path) -> None:
    """Overlapping words see k bases: those that only touch the region belong to neither side, even without a gap."""
    rng = np.random.default_rng(0)
    residues = rng.choice(np.frombuffer(b"ACGT", np.uint8), size=3000).tobytes()
    for overlapping in (True, False):
        corpus = build_from_records(
            [Sequence(key="chr", residues=residues)],
            output=tmp_path / "c",
            tokenizer=KmerTokenizer(k=5, overlapping=overlapping),
            split=SplitConfig(regions=("chr:1001-1203",), guard=0),
            variants=0,
            overwrite=True,
        )
        tokenizer = corpus.tokenizer
        truth = tokenizer.encode(Sequence(key="chr", residues=residues)).ids
        bases = tokenizer.units(truth)[:, 0]
        train, validation = segments(corpus)
        inside = [i for i, (first, last) in enumerate(bases) if first >= 1000 and last <= 1203]
        apart = [i for i, (first, last) in enumerate(bases) if last <= 1000 or first >= 1203]
        assert validation == {("chr", inside[0], inside[-1] + 1)}
        assert sorted(p for _, start, stop in train for p in range(start, stop)) == apart


def test_positions_of_a_region_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskseq.corpus import finish

    rng = np.random.default_rng(0)
    record = Sequence(key="chr", residues=rng.choice(np.frombuffer(b"ACGT", np.uint8), size=3000).tobytes())
    found = []
    for chunk in (1 << 20, 64, 7):
        monkeypatch.setattr(finish, "UNITS_CHUNK", chunk)
        corpus = build_from_records(
            [record],
            output=tmp_path / str(chunk),
            tokenizer=KmerTokenizer(k=6),
            split=SplitConfig(regions=("1234-2345",), guard=3),
        )
        found.append(segments(corpus))
    assert found[0] == found[1] == found[2]


def test_by_default_long_records_lose_a_region_and_short_ones_stay_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chromosomes = [Text(key=f"chr{i}", text="".join(rng.choice(list("abcd"), 12_000 + i))) for i in range(3)]
    plasmid = Text(key="plasmid", text="abcd" * 50)
    train, validation, report = split(tmp_path, [*chromosomes, plasmid], guard=100)
    assert report["by"] == "region"
    assert ("plasmid", 0, 200) in train
    assert sorted(key for key, _, _ in validation) == ["chr0", "chr1", "chr2"]
    assert all(stop - start == 600 for _, start, stop in validation)
    for guard in (1, 1000):  # a later stage with a longer context trains on nothing that was held out
        assert split(tmp_path, [*chromosomes, plasmid], guard=guard)[1] == validation
    many = random_texts(200, 60)
    assert split(tmp_path, many, guard=100)[2]["by"] == "record"


def test_a_small_file_of_one_record_is_not_eaten_by_the_guard_gap(tmp_path: Path) -> None:
    train, validation, report = split(tmp_path, [Text(key="co2", text="abcd" * 500)])
    assert report["by"] == "region"
    assert units(validation) == 100
    assert units(train) == 2000 - 100 - 2 * report["regions"][0]["guard"]
    assert report["regions"][0]["guard"] == 100
    tiny, _, report = split(tmp_path, [Text(key="two", text="ab")])
    assert units(tiny) == 1


def test_a_copy_of_a_record_that_is_cut_does_not_carry_its_region_into_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = Text(key="contig", text="".join(rng.choice(list("abcd"), 2000)))
    for region in ("contig:500-600", "copy:500-600"):
        records = [text, Text(key="copy", text=complement(text).text), Text(key="else", text="abcd" * 10)]
        train, validation, report = split(tmp_path, records, regions=(region,), guard=0)
        cut = region.split(":")[0]
        assert {key for key, _, _ in train | validation} == {cut, "else"}
        assert report["left_out"]["positions"] == 2000
        assert report["left_out"]["duplicates"] == 1


def test_by_time_training_ends_before_validation_begins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        Text(key=f"case{i}", text="".join(rng.choice(list("abcd"), rng.integers(20, 90))), begin=float(begin))
        for i, begin in enumerate(rng.integers(1_000, 9_000, size=300))
    ]
    records += [Text(key=f"late copy {i}", text=records[i].text, begin=9_500.0) for i in range(5)]
    by_key = {record.key: record for record in records}
    train, validation, report = split(tmp_path, records, by="time", validation=0.2)
    ends = [by_key[key].span()[1] for key, _, _ in train]
    begins = [by_key[key].span()[0] for key, _, _ in validation]
    assert max(ends) < min(begins)
    assert datetime.fromisoformat(report["boundary"]).timestamp() == min(begins)
    left_out = report["left_out"]
    assert len(train) + len(validation) + left_out["overlapping_the_boundary"] + left_out["duplicates"] == 305
    overlapping = [r for r in records if r.span()[0] < min(begins) <= r.span()[1]]
    assert left_out["overlapping_the_boundary"] == len(overlapping) > 0
    trained = {by_key[key].text for key, _, _ in train}
    assert not any(by_key[key].text in trained for key, _, _ in validation)
    assert left_out["duplicates"] > 0
    with pytest.raises(UsageError, match="needs records with times"):
        split(tmp_path, random_texts(9, 9), by="time")


def test_by_start_keeps_what_overlaps_the_boundary(tmp_path: Path) -> None:
    records = [Text(key=f"case{i}", text="ab" * 30, begin=1_000.0 + 10 * i) for i in range(50)]
    by_key = {record.key: record for record in records}
    train, validation, report = split(tmp_path, records, by="start", validation=0.2, duplicates="ignore")
    assert {key for key, _, _ in train} == {f"case{i}" for i in range(40)}
    assert {key for key, _, _ in validation} == {f"case{i}" for i in range(40, 50)}
    assert max(by_key[key].span()[1] for key, _, _ in train) > datetime.fromisoformat(report["boundary"]).timestamp()
    assert report["left_out"]["positions"] == 0


@pytest.mark.parametrize(
    "config",
    [
        SplitConfig(by="record", validation=0.2),
        SplitConfig(by="start", validation=0.2),
        SplitConfig(by="time", validation=0.2),
        SplitConfig(by="region", validation=0.1),
        SplitConfig(by="region", validation=0.1, guard=2),
        SplitConfig(regions=("r3:2-5", "r3:9-9", "r7:1-2"), guard=0),
        SplitConfig(by="none"),
    ],
)
def test_what_is_fitted_sees_the_training_records_of_the_build(tmp_path: Path, config: SplitConfig) -> None:
    rng = np.random.default_rng(2)
    texts = ["".join(rng.choice(list("abcd"), size=20 + 3 * i)) for i in range(50)]
    records = [Text(key=f"r{i}", text=text, begin=float(100 * i)) for i, text in enumerate(texts)]
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=Letters(), split=config)
    trained = [corpus.tokenizer.decode(corpus.read(i).ids) for i in corpus.sequences("train")]
    assert [record.text for record in training_records(lambda: iter(records), config)] == trained


def genome(noise: int) -> list[Sequence]:
    """Of 6,000 bases, those that `noise` seeds are 2,000 to 4,000."""
    bases = np.random.default_rng(0).choice(list(b"ACGT"), size=6000, p=[0.4, 0.1, 0.2, 0.3]).astype(np.uint8)
    bases[2000:4000] = np.random.default_rng(noise).choice(list(b"ACGT"), size=2000)
    return [Sequence(key="chr", residues=bases.tobytes())]


def recording(noise: int) -> list[Recording]:
    values = np.random.default_rng(0).normal(size=(6000, 1))
    values[2000:4000] = noise * np.random.default_rng(noise).normal(size=(2000, 1))
    return [Recording(key="ecg", channels=values, names=("lead",))]


def events(rng: np.random.Generator, *, names: str, key: str, begin: int, n: int) -> Case:
    time = (begin + np.cumsum(rng.integers(1, 10**6, size=n))) * 1_000_000
    return Case(key=key, activity=rng.choice(list(names), size=n).tolist(), time=time, offset=np.zeros(n, np.int32))


def one_long_case(noise: int) -> list[Case]:
    rng, other = np.random.default_rng(0), np.random.default_rng(noise)
    parts = [
        events(rng, names="abc", key="", begin=0, n=2000),
        events(other, names="abcdefgh"[noise:], key="", begin=10**10, n=2000),
        events(rng, names="abc", key="", begin=2 * 10**10, n=2000),
    ]
    activity = [name for part in parts for name in part.activity]
    time = np.concatenate([part.time for part in parts])
    return [Case(key="log", activity=activity, time=time, offset=np.zeros(6000, np.int32))]


def cases_in_time(noise: int) -> list[Case]:
    """The last of ten cases, and one that overlaps the boundary, have other events."""
    rng, other = np.random.default_rng(0), np.random.default_rng(noise)
    cases = [events(rng, names="abc", key=str(i), begin=10**9 * i, n=50) for i in range(9)]
    late = [events(other, names="defgh"[noise:], key=key, begin=10**9 * b, n=50) for key, b in (("y", 20), ("x", 19))]
    late[1].time[-1] = late[0].time[0] + 1
    return [late[1], *cases, late[0]]


MIDDLE = SplitConfig(regions=("2001-4000",), guard=0)


@pytest.mark.parametrize(
    ("records", "config", "fit"),
    [
        (genome, MIDDLE, lambda records: BpeTokenizer.fit(records, size=64)),
        (recording, MIDDLE, lambda records: QuantizeTokenizer.fit(records)),
        (one_long_case, MIDDLE, lambda records: EventTokenizer.fit(records)),
        (cases_in_time, SplitConfig(by="time", validation=0.1), lambda records: EventTokenizer.fit(records)),
    ],
    ids=["BPE", "bins of a signal", "one long log", "cases, by time"],
)
def test_what_is_held_out_changes_nothing_that_is_fitted(
    records: Callable[[int], list[Record]], config: SplitConfig, fit: Callable[[Iterable[Record]], Tokenizer]
) -> None:
    one, other = (fit(training_records(lambda noise=noise: records(noise), config)) for noise in (1, 3))
    assert one == other
    seen, seen_other = (fit(records(noise)) for noise in (1, 3))
    assert seen != seen_other  # it would have made a difference


def test_a_record_that_cannot_be_cut_is_not_fitted_whole(tmp_path: Path) -> None:
    (record,) = genome(0)
    uncut = Array(key="a", values=np.zeros((6000, 2), np.uint16))
    with pytest.raises(TypeError, match=r"Array must define cut\(start, stop\)"):
        list(training_records(lambda: [uncut], MIDDLE))
    assert [len(r) for r in training_records(lambda: [record], MIDDLE)] == [2000, 2000]


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is left to train on"):
        split(tmp_path, [Text(key="a", text="abcd")], regions=("1-4",))


@pytest.mark.parametrize(
    "wrong", [{"validation": 1.0}, {"validation": -0.1}, {"guard": -1}, {"by": "record", "regions": ("1-2",)}]
)
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        SplitConfig(**wrong)
