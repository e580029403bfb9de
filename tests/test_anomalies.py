"""How odd records are: detectors by brute force, what is usual, and the figures of labelled records."""

import csv
import json
import math
import shutil
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_curve
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent))

from untrained import untrained

from maskseq.cli import app
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.evaluation.anomalies import best_f1, false_alarms
from maskseq.predict.stated import Stated
from maskseq.scoring.detectors import detectors
from maskseq.scoring.score import Score, score_records
from maskseq.scoring.surprise import position_rows, record_row
from maskseq.scoring.usual import Usual, normal_records
from maskseq.tokenizer import Tokenizer
from maskseq.trained import load
from maskseq.types import OTHER, Encoded, Field, ListRecord, Vocabulary
from maskseq_events.delimited import Csv
from maskseq_events.tokenizer import EventTokenizer


class Letter(Tokenizer[ListRecord]):
    fields = (Field(name="letter", tokens=tuple("abcdef"), controls=(OTHER,)),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


LETTERS = Vocabulary.of((Field(name="letter", tokens=tuple("abcdef"), controls=(OTHER,)),))


def ids(text: str) -> np.ndarray:
    return np.array([["abcdef?".index(letter)] for letter in text])


def edits(first: str, second: str) -> int:
    """By the definition."""
    if not first or not second:
        return len(first) + len(second)
    kept = edits(first[1:], second[1:]) + (first[0] != second[0])
    return min(kept, edits(first[1:], second) + 1, edits(first, second[1:]) + 1)


def test_detectors_are_what_they_say() -> None:
    training = ["abc", "abcd", "abcabc", "aabbcc", "ab", "abd"]
    found = detectors([ids(each) for each in training], LETTERS)
    rng = np.random.default_rng(0)
    for _ in range(30):
        text = "".join(rng.choice(list("abcdef?"), rng.integers(1, 7)))
        mine = ids(text)
        assert found["never seen"](mine) == sum(letter in "ef?" for letter in text)
        nearest = min(edits(text, each) / max(len(text), len(each)) for each in training)
        assert found["edit distance"](mine) == pytest.approx(nearest)
        apart = [sum(abs(text.count(x) - t.count(x)) for x in "abcdef?") / (len(text) + len(t)) for t in training]
        assert found["counts"](mine) == pytest.approx(min(apart))
    assert found["2-grams"](ids("abc")) < 2 < found["2-grams"](ids("acb"))  # "ac" was never seen
    pairs = Counter(pair for each in training for pair in pairwise(f"^{each}$"))
    after = Counter(first for first, _ in pairs.elements())
    for text in ("abc", "acb", "a", "bd"):
        bits = [-np.log2((pairs[x, y] + 0.5) / (after[x] + 1)) for x, y in pairwise(f"^{text}$")]
        assert found["transitions"](ids(text)) == pytest.approx(max(a + b for a, b in pairwise(bits)))
    assert found["length"](ids("ab" * 9)) > found["length"](ids("abc")) == 0


def test_numbers_have_no_detectors_of_events() -> None:
    assert detectors([ids("ab")], Vocabulary.of((Field(name="v", tokens=("0", "1"), centres=(0.0, 1.0)),))) == {}


def surprised(name: str, tails: list[list[float]], by: str = "") -> Score:
    found = np.array(tails, np.float32)
    return Score(name, found, np.zeros(found.shape, np.int64), {by: found})


def test_a_record_is_as_odd_as_its_oddest_cell_against_what_is_usual_in_the_field() -> None:
    normal = [surprised(str(i), [[0.1, 7.0], [0.2, 5.0 + i / 10]]) for i in range(9)]
    usual = Usual.of(normal, ("activity", "gap"), {})
    loud, wrong = surprised("loud", [[0.1, 9.0], [0.1, 8.0]]), surprised("wrong", [[0.1, 6.0], [6.0, 6.0]])
    assert loud.mean_bits < wrong.mean_bits or loud.bits.max() > wrong.bits.max()
    rows = [record_row(each, ("activity", "gap"), usual) for each in (loud, wrong)]
    assert rows[0]["odd"] < 2 < rows[1]["odd"]
    assert (rows[1]["odd_part"], rows[1]["odd_position"]) == ("activity", 2)
    positions = list(position_rows(wrong, ("activity", "gap"), usual))
    assert [each["odd_field"] for each in positions] == ["gap", "activity"]
    assert positions[1]["odd"] == pytest.approx(rows[1]["odd"])


def test_an_expert_that_contradicts_the_blend_is_heard() -> None:
    calm = np.full((3, 1), 0.1, np.float32)
    normal = [Score(str(i), calm, None, {"": calm, "cross-field": calm}) for i in range(4)]
    usual = Usual.of(normal, ("activity",), {})
    torn = Score("torn", calm, None, {"": calm, "cross-field": calm + np.array([[0], [9], [0]], np.float32)})
    assert usual.odd(usual.parts(torn)) > 5 > usual.odd(usual.parts(normal[0]))


def test_tails_are_what_is_no_likelier() -> None:
    probabilities = np.array([0.4, 0.3, 0.15, 0.1, 0.05, 1e-9, 0.0]) / (1 + 1e-9)

    def predict(examples: object, cells: list[np.ndarray]) -> list[np.ndarray]:
        with np.errstate(divide="ignore"):
            return [np.tile(np.log(probabilities), (len(each), 1)) for each in cells]

    (score,) = score_records(predict, [("r", Encoded(ids("abcde")))], tokenizer=Letter(), context=8)
    expected = -np.log2([1.0, 0.6, 0.3, 0.15, 0.05])
    np.testing.assert_allclose(score.tails[""][:, 0], expected, atol=1e-5)


def test_a_number_beyond_all_bins_is_odder_the_further_out_it_is() -> None:
    class Numbers(Tokenizer[ListRecord]):
        fields = (Field(name="v", tokens=("0", "1"), centres=(0.0, 1.0)),)

        def encode(self, record: ListRecord) -> Encoded:
            return Encoded(np.array(record.values))

        def decode(self, ids: np.ndarray) -> list[list[int]]:
            return ids.tolist()

    class Known:
        def stated(self, examples: object, cells: list[np.ndarray]) -> list[Stated]:
            return [Stated.gaussian(np.zeros(len(each)), np.ones(len(each))) for each in cells]

        def of_bins(self, stated: object, cells: list[np.ndarray]) -> list[np.ndarray]:
            return [np.log(np.full((len(each), 2), 0.5)) for each in cells]

        def __call__(self, examples: object, cells: list[np.ndarray]) -> list[np.ndarray]:
            return self.of_bins(None, cells)

    numbers = np.array([[0.5], [2.0], [-6.0], [60.0], [np.nan]])
    record = Encoded(np.ones((5, 1), np.int64), numbers=numbers)
    (score,) = score_records(Known(), [("r", record)], tokenizer=Numbers(), context=8)
    tails = score.tails[""][:, 0]
    assert tails[:3] == pytest.approx([-math.log2(math.erfc(x / math.sqrt(2))) for x in (0.5, 2, 6)], rel=1e-4)
    assert tails[3] > 1000  # far beyond what a probability can say
    assert tails[4] == 0  # nobody knows how far out it is: its bin decides


def test_normal_records_are_cut_to_what_the_model_sees() -> None:
    records = [("a", Encoded(np.zeros((25, 1), int))), ("b", Encoded(np.zeros((4, 1), int)))]
    assert [(key, len(each)) for key, each in normal_records(records, 10, 1000)] == [
        ("a", 10),
        ("a", 10),
        ("a", 5),
        ("b", 4),
    ]
    assert len(list(normal_records(records, 10, 12))) == 2


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        labels, scores = rng.random(50) < 0.2, rng.integers(0, 8, 50).astype(float)
        labels[0] = True
        assert best_f1(labels, scores) == pytest.approx(max(f1_score(labels, scores >= t) for t in set(scores)))
        wrong, right, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert false_alarms(labels, scores, 0.95) == pytest.approx(wrong[right >= 0.95].min())


def log(path: Path, n: int, seed: int, faults: int = 0) -> Path:
    """Cases a, b, c, c, d; in the first ones, two events have changed places."""
    rng = np.random.default_rng(seed)
    rows = ["case,activity,time,who,kind"]
    for case in range(n):
        activities = list("abc") + ["c"] * int(rng.integers(3)) + ["d"]
        if case < faults:
            activities[0], activities[1] = "b", "a"
        for event, activity in enumerate(activities):
            who = rng.choice(["x", "y", "z"])
            kind = "fault" if case < faults else "normal"
            rows.append(f"{seed}-{case},{activity},2024-01-{1 + case % 28:02d} 10:{event:02d}:00,{who},{kind}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its encoder knows nothing: what is counted on its corpus must do."""
    folder = tmp_path_factory.mktemp("anomalies")
    records = list(Csv().read(log(folder / "log.csv", 150, 0)))
    tokenizer = EventTokenizer.fit(records, attributes=["who"], categorical=["who"])
    split = SplitConfig(by="record", selection=0.2, duplicates="ignore")
    corpus = build_from_records(records, output=folder / "c", tokenizer=tokenizer, split=split)
    untrained(tokenizer, folder / "run", context=16)
    shutil.copytree(corpus.path, folder / "run" / "corpus")
    return folder / "run"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_swapped_events_come_first(run: Path, tmp_path: Path) -> None:
    file = log(tmp_path / "new.csv", 60, 1, faults=6)
    result = invoke("score", run, file, "--output", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0])[:2] == ["key", "odd"]
    first = sorted(rows, key=lambda row: -float(row["odd"]))[:6]
    assert {row["key"] for row in first} == {f"1-{i}" for i in range(6)}
    assert {row["odd_part"] for row in first} <= {"transitions", "2-grams", "3-grams"}


def test_labelled_records_are_told_apart(run: Path, tmp_path: Path) -> None:
    file = log(tmp_path / "new.csv", 60, 1, faults=6)
    labels = tmp_path / "labels.csv"
    labels.write_text("key,label\n" + "".join(f"1-{i},{int(i < 6)}\n" for i in range(60)), encoding="utf-8")
    for given in (("--labels", labels), ("--labels", "kind", "--abnormal", "fault")):
        result = invoke("evaluate", run, file, *given, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["prevalence"] == pytest.approx(0.1)
        assert found["F1 of calling all abnormal"] == pytest.approx(0.2 / 1.1)
        assert next(iter(found["scores"])) == "odd"
        assert found["scores"]["odd"]["AUROC"] > 0.99
        assert found["scores"]["2-grams"]["AUROC"] > 0.99
    shown = invoke("evaluate", run, file, "--labels", labels)
    assert shown.exit_code == 0, shown.output
    assert "odd" in shown.output


@pytest.mark.parametrize(
    ("content", "given", "code", "names"),
    [
        ("key,label\n1-0,1\n", (), 3, "1-1"),
        ("key,label\n" + "".join(f"1-{i},0\n" for i in range(8)), (), 3, "one class"),
        ("key,label\n" + "".join(f"1-{i},{'good' if i else 'bad'}\n" for i in range(8)), (), 2, "--abnormal"),
        (None, ("--labels", "who"), 2, "who"),
        (None, ("--labels", "nothing"), 3, "nothing"),
        (None, ("--abnormal", "1"), 2, "--labels"),
    ],
)
def test_labels_that_say_nothing_are_refused(
    run: Path, tmp_path: Path, content: str | None, given: tuple[str, ...], code: int, names: str
) -> None:
    file = log(tmp_path / "new.csv", 8, 1)
    if content is not None:
        (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
        given = ("--labels", str(tmp_path / "labels.csv"))
    result = invoke("evaluate", run, file, *given)
    assert (result.exit_code, names in result.output) == (code, True), result.output


def test_without_its_corpus_a_run_says_that_nothing_is_usual(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "corpus")
    moved = load(tmp_path / "run")
    with pytest.warns(UserWarning, match="odd"):
        assert moved.usual() is None
