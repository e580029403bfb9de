"""How much is missing, on laws where that is known, and files that come back with as much more in them."""

import csv
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.errors import UsageError
from maskseq.infill.options import Insertion, Unsized
from maskseq.infill.ranges import read_ranges
from maskseq.lengths.missing import by_evidence, give_lengths, insert_missing, read_lengths
from maskseq.predict.protocol import of_ids
from maskseq.trained import TrainedModel
from maskseq_events.case import Case, no_time
from maskseq_events.delimited import Csv
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes
from maskseq_genomics import sequence
from maskseq_genomics.nucleotide import NucleotideTokenizer

STEP = np.full((4, 4), 0.02) + 0.92 * np.roll(np.eye(4), 1, axis=1)  # mostly A → C → G → T → A
STRICT = np.full((4, 4), 0.002) + 0.992 * np.roll(np.eye(4), 1, axis=1)


def chain(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray], step: np.ndarray = STEP) -> list[np.ndarray]:
    """The exact conditionals of that chain."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        seen = np.where(ids >= 4, 1.0, np.eye(5)[np.minimum(ids[:, 0], 4)][:, :4])
        forward, backward = [np.full(4, 0.25)], [np.ones(4)]
        for each in seen[:-1]:
            forward.append((forward[-1] * each) @ step)
        for each in seen[:0:-1]:
            backward.append(step @ (backward[-1] * each))
        weight = np.array(forward) * np.array(backward[::-1])
        answers.append(np.log(weight / weight.sum(axis=1, keepdims=True))[requested[:, 0]])
    return answers


BASES = NucleotideTokenizer()
JUDGE = by_evidence(of_ids(chain), BASES)


def probability(letters: str) -> float:
    ids = ["ACGT".index(letter) for letter in letters]
    return 0.25 * float(np.prod([STEP[a, b] for a, b in itertools.pairwise(ids)]))


def test_the_length_of_a_hole_is_chosen_by_bayes_rule() -> None:
    record = sequence.Sequence(key="g", residues=b"ACGTACNNNNNTAC")
    sized, (chosen,) = give_lengths(record, [Unsized(6, 11, 0, 4)], JUDGE, BASES, context=64)
    total = [
        sum(probability("ACGTAC" + "".join(fill) + "TAC") for fill in itertools.product("ACGT", repeat=n))
        for n in range(5)
    ]
    exact = np.array(total) / sum(total)
    assert (chosen.length, chosen.start, chosen.stop) == (1, 7, 11)  # C [G] T
    assert chosen.probability == pytest.approx(exact[1])
    assert dict(json.loads(chosen.alternatives)) == pytest.approx({n: exact[n] for n in (0, 2, 3, 4)}, abs=2e-6)
    assert sized.residues == b"ACGTACNTAC"


def test_several_holes_keep_their_places() -> None:
    record = sequence.Sequence(key="g", residues=b"ACGTACNNNTACGTACGNNNNNCGTACG")
    sized, chosen = give_lengths(
        record,
        [Unsized(6, 9, 0, 3), Unsized(17, 22, 0, 5)],
        by_evidence(of_ids(chain), NucleotideTokenizer()),
        NucleotideTokenizer(),
        context=64,
    )
    assert [(each.start, each.length) for each in chosen] == [(7, 1), (18, 2)]
    assert sized.residues == b"ACGTACNTACGTACGNNCGTACG"


def case(activity: str) -> Case:
    time, offset = no_time(len(activity))
    return Case(key="c", activity=tuple(activity), time=time, offset=offset)


EVENTS = EventTokenizer(activities=tuple("ABCD"), end=False)
LOG_JUDGE = by_evidence(of_ids(chain), EVENTS)


def with_gaps(rng: np.random.Generator, length: int, n_gaps: int) -> tuple[str, str]:
    """A walk through the chain with stretches of one or two hidden, and with them gone."""
    ids = [int(rng.integers(4))]
    while len(ids) < length:
        ids.append(int(rng.choice(4, p=STRICT[ids[-1]])))
    starts = rng.choice(np.arange(3, length - 5, 6), n_gaps, replace=False).tolist()
    masked = {start + i for start in starts for i in range(1 + start % 2)}
    marked = "".join("?" if i in masked else "ABCD"[each] for i, each in enumerate(ids))
    return marked, marked.replace("?", "")


def test_missing_events_are_found_where_they_are_missing() -> None:
    """Mostly: in every sixth walk, the chain takes a step out of line, and that looks as if something were missing."""
    rng = np.random.default_rng(0)
    strict = of_ids(partial(chain, step=STRICT))
    right = more = 0
    for _ in range(40):
        marked, shown = with_gaps(rng, 30, 2)
        found, _ = insert_missing(case(shown), Insertion(most=3), by_evidence(strict, EVENTS), EVENTS, context=256)
        right += "".join(found.activity) == marked
        more += len(found) > len(marked)
    assert right >= 28
    assert more <= 10


def test_nothing_is_inserted_where_nothing_is_missing_but_for_the_threshold() -> None:
    whole = case("ABCDABCDABCDABCDABCD")
    same, none = insert_missing(whole, Insertion(most=3), LOG_JUDGE, EVENTS, context=64)
    assert same is whole
    assert none == []
    gap = case("ABCDABDABCD")
    for threshold, inserted in ((3.0, 1), (3.5, 1), (5.0, 0)):
        _, found = insert_missing(gap, Insertion(most=3, threshold=threshold), LOG_JUDGE, EVENTS, context=64)
        assert len(found) == inserted
    _, (found,) = insert_missing(gap, Insertion(most=3), LOG_JUDGE, EVENTS, context=64)
    assert (found.start, found.stop, found.length) == (7, 6, 1)
    odds = (STEP @ STEP)[1, 3] / STEP[1, 3]
    assert found.evidence == pytest.approx(np.log(odds))


@pytest.mark.parametrize("text", ["chr1:1-10", "chr1:1-10=5", "chr1:0-3=1..2", "chr1:5-4=1..2", "a:1-2=3..2", "=1..2"])
def test_a_length_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--length"):
        read_lengths([text])


def test_lengths_are_read() -> None:
    assert read_lengths(["a:5-14=0..20", "a:1,001=1..2", "7-9=1..1"]) == {
        "a": [Unsized(4, 14, 0, 20), Unsized(1000, 1001, 1, 2)],
        "": [Unsized(6, 9, 1, 1)],
    }


@pytest.fixture(scope="module")
def genome_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("genome"))


def test_a_genome_comes_back_with_a_hole_of_the_chosen_length(genome_run: TrainedModel, tmp_path: Path) -> None:
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 200))
    lines = [(letters[:90] + "NNNNN" + letters[90:])[i : i + 60] for i in range(0, 205, 60)]
    (tmp_path / "g.fa").write_text("\n".join([">g", *lines, ">h", "ACNGT", ""]))
    requested = {"lengths": read_lengths(["g:91-95=3..12"])}
    infill_file(genome_run, tmp_path / "g.fa", output=tmp_path / "out", **requested)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out" / "lengths.csv").read_text()))
    n = int(row["length"])
    assert (row["key"], row["start"], row["stop"]) == ("g", "91", "95")
    assert 3 <= n <= 12
    after = (tmp_path / "out" / "g.fa").read_text().split(">")
    got = "".join(after[1].split("\n")[1:])
    assert max(map(len, after[1].split("\n")[1:])) == 60
    assert got[:90] + got[90 + n :] == letters
    assert set(got) <= set("ACGT")
    fills = list(csv.DictReader(io.StringIO((tmp_path / "out" / "fills.csv").read_text())))
    assert [fill["key"] for fill in fills] == ["g"] * n + ["h"]
    for wrong, message in [
        ({"lengths": read_lengths(["x:1-2=1..3"])}, "no record is called 'x'"),
        ({"lengths": read_lengths(["g:1-900=1..3"])}, "leaves the record"),
        ({"lengths": read_lengths(["g:91-95=3..40"])}, "half the model's context"),
        (requested | {"ranges": read_ranges(["g:1-2"])}, "cannot be counted"),
    ]:
        with pytest.raises(UsageError, match=message):
            infill_file(genome_run, tmp_path / "g.fa", output=tmp_path / "no", **wrong)
    (tmp_path / "r.fq").write_text("@g\nACGTNNACGT\n+\nIIIIIIIIII\n")
    with pytest.raises(UsageError, match="a quality for each base"):
        infill_file(genome_run, tmp_path / "r.fq", output=tmp_path / "no", lengths=read_lengths(["g:5-6=1..1"]))


LOG = """case,activity,id,time,who,note
1,a,17,2024-01-01,x,"p, q"
2,a,18,2024-01-01,x,
1,b,19,2024-01-02,y,r
1,c,20,2024-01-04,x,s"""


def test_added_events_stand_next_to_their_neighbours(tmp_path: Path) -> None:
    """Every line of the file comes back, and the new ones between them belong to their case."""
    (tmp_path / "log.csv").write_text(LOG)
    format = Csv(attributes=("who",))
    cases = {each.key: each for each in format.read(tmp_path / "log.csv")}
    tokenizer = EventTokenizer.fit(cases.values(), attributes=["who"])
    first = tokenizer.resized(cases["1"], 1, 1, 2)
    assert first.activity == ("a", "?", "?", "b", "c")
    known = replace(first, activity=("a", "b", "?", "b", "c"), attributes={"who": ("x", None, "y", "y", "x")})
    last = tokenizer.resized(known, 4, 4, 1)
    format.write([last, cases["2"]], tmp_path / "more.csv")
    lines = (tmp_path / "more.csv").read_text().split("\n")
    old = LOG.split("\n")
    assert lines == [*old[:2], "1,b,,?,,", "1,?,,?,y,", *old[2:4], "1,?,,?,?,", old[4]]


def test_a_log_comes_back_with_events_added(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG + "\n")
    run = untrained(EventTokenizer.fit(Csv().read(tmp_path / "log.csv"), attributes=["who"]), tmp_path / "run")
    summary = infill_file(
        run, tmp_path / "log.csv", output=tmp_path / "out", insertion=Insertion(most=2, threshold=0.0)
    )
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "lengths.csv").read_text())))
    after = (tmp_path / "out" / "log.csv").read_text().split("\n")
    assert len(after) == len(LOG.split("\n")) + 1 + sum(int(row["length"]) for row in rows)
    left = iter(after)
    assert all(line in left for line in LOG.split("\n"))  # in their order
    assert all(line.startswith("1,") for line in set(after) - set(LOG.split("\n")) - {""})
    assert len(summary["lengths"]) == len(rows)


def test_logs_that_cannot_take_events_say_so(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG + "\n")
    cases = [replace(each, origin=None) for each in Csv().read(tmp_path / "log.csv")]
    Xes().write(cases, tmp_path / "log.xes")
    tokenizer = EventTokenizer.fit(cases)
    with pytest.raises(UsageError, match="convert the log to CSV"):
        tokenizer.resized(next(iter(Xes().read(tmp_path / "log.xes"))), 1, 1, 1)
