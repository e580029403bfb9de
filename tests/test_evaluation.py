"""`maskseq evaluate` and `maskseq baseline`: one code path and the same masks, from held-out data to a page."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from corpora import Letters, random_texts
from typer.testing import CliRunner
from untrained import untrained

from maskseq.apps.evaluate import evaluate_baselines, evaluate_run
from maskseq.baselines.baselines import Baselines
from maskseq.cli import app
from maskseq.comparison.judge import judge
from maskseq.comparison.question import Question, draw
from maskseq.corpus.build import build_from_records
from maskseq.corpus.dress import ReadAs
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.tables import ContextTables
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.tokenizer import QuantizeTokenizer

SIGNAL = ReadAs(format="signal-csv")

SPLIT = SplitConfig(validation=0.3)


@dataclass(frozen=True, kw_only=True)
class Levels(Tokenizer[ListRecord]):
    """64 levels from -1 to 1."""

    fields = (
        Field(
            name="level", tokens=tuple(map(str, range(64))), centres=tuple(((np.arange(64) + 0.5) / 32 - 1).tolist())
        ),
    )

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> list[int]:
        return ids[:, 0].tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned nothing, its corpus in its folder."""
    folder = tmp_path_factory.mktemp("run")
    records = random_texts(200, 40, seed=1)
    build_from_records(records, output=folder / "corpus", tokenizer=Letters(), split=SPLIT)
    untrained(Letters(), folder)
    return folder


def maskseq(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_that_knows_nothing_has_no_skill(run: Path) -> None:
    question = Question(protocols=("masked", "gap-3"), cells=500, every=False)
    reported = evaluate_run(run, question=question, trust_code=True).to_json()
    for figures in reported["protocols"].values():
        assert set(figures["by"]) >= {"model", "frequencies", "5 + 5 neighbours", "order-2 Markov chain"}
        assert figures["skill"] < 0.05
        assert figures["wins in bits"] is False
    assert reported["protocols"]["gap-3"]["whole gaps"][Letters().fields[0].name]["model"]["gaps"] > 50


def test_a_model_that_is_the_table_ties_with_it(run: Path) -> None:
    """The same answers give the same figures: everybody is judged alike."""
    corpus = Corpus.open(run / "corpus", trust_code=True)
    sequences = list(corpus.training_ids())
    table = ContextTables(sequences, vocabulary=Letters().vocabulary, symmetries=Letters().symmetries(), depth=5)
    records = [(str(i), each) for i, each in corpus.each("validation")]
    reported = judge(
        Question(cells=300, protocols=("masked",), every=False),
        records,
        Baselines(sequences, Letters(), 5),
        context=64,
        masking=MaskingConfig(),
        predictors={"model": table},
        product="model",
    ).to_json()["protocols"]["masked"]
    assert reported["by"]["model"] == reported["by"]["5 + 5 neighbours"]


def test_a_law_is_found_by_who_looks_at_neighbours() -> None:
    """Letters repeat in pairs, so one neighbour tells: tables near 0 bits, frequencies near 2."""
    rng = np.random.default_rng(0)

    def sequence() -> Encoded:
        return Encoded(np.repeat(rng.integers(4, size=40), 2)[:, None].astype(np.uint8))

    baselines = Baselines([sequence().ids for _ in range(40)], NucleotideTokenizer(), 5)
    reported = judge(
        Question(protocols=("isolated",), cells=300, every=False),
        [(str(i), sequence()) for i in range(80)],
        baselines,
        context=80,
        masking=MaskingConfig(),
    ).to_json()["protocols"]["isolated"]["by"]
    assert reported["frequencies"]["bits"] > 1.9
    assert reported["5 + 5 neighbours"]["accuracy"] > 0.75


def test_numbers_are_judged_in_their_unit(tmp_path: Path) -> None:
    """A slow sine: straight lines beat frequencies, and z-scored errors are errors over the training spread."""
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(400) / 30)
    levels = np.digitize(wave, np.linspace(-1, 1, 65)[1:-1])
    records = [ListRecord(key=str(i), values=np.roll(levels, int(rng.integers(400))).tolist()) for i in range(30)]
    build_from_records(records, output=tmp_path / "c", tokenizer=Levels(), split=SPLIT)
    reported = evaluate_baselines(
        tmp_path / "c",
        question=Question(
            protocols=("block-5",), cells=400, imputers=("linear", "last", "mean", "covariances"), every=False
        ),
        context=400,
        trust_code=True,
    ).to_json()["protocols"]["block-5"]
    (errors,) = (each["by"] for each in reported["errors"].values())
    assert errors["linear"]["MSE"] < errors["last"]["MSE"] < errors["mean"]["MSE"]
    assert errors["covariances"]["MSE"] < errors["last"]["MSE"]
    assert errors["linear"]["MAE, z-scored"] == pytest.approx(errors["linear"]["MAE"] / wave.std(), rel=0.1)


def test_where_a_record_shows_no_number_simple_fills_say_the_training_mean(tmp_path: Path) -> None:
    records = [ListRecord(key=str(i), values=[i % 64, i % 64]) for i in range(200)]
    build_from_records(records, output=tmp_path / "c", tokenizer=Levels(), split=SPLIT)
    requested = Question(protocols=("point-100",), imputers=("linear", "last", "mean"), every=False)
    reported = evaluate_baselines(tmp_path / "c", question=requested, context=8, trust_code=True).protocols["point-100"]
    assert reported.errors is not None
    (errors,) = (each["by"] for each in reported.errors.values())
    assert errors["frequencies"]["MSE"] > 0
    assert all(errors[name] == errors["frequencies"] for name in ("linear", "last", "mean"))


def test_numbers_of_a_file_are_judged_as_they_are(tmp_path: Path) -> None:
    """A straight line between coarse bins: who draws it errs by nothing, though its bins would err by a lot."""
    line = np.linspace(0, 10, 401)
    table = tmp_path / "line.csv"
    table.write_text("x\n" + "\n".join(map(repr, line.tolist())))
    tokenizer = QuantizeTokenizer.fit(SignalCsv().read(table), scheme="uniform", bins=5)
    records = list(SignalCsv().read(table))
    build_from_records(records, output=tmp_path / "c", tokenizer=tokenizer, split=SplitConfig(regions=("301-401",)))
    requested = Question(protocols=("block-4",), cells=100, window=20, stride=7, imputers=("linear",), every=False)
    found = evaluate_baselines(tmp_path / "c", table, question=requested, within=["line:341-380"], read_as=SIGNAL)
    errors = found.protocols["block-4"].errors_of_all_fields
    assert errors is not None
    assert errors.by["linear"].mse < 1e-20 < 1e-3 < errors.by["rounding to bins"].mse
    for within, words in (["line:341-500"], "leaves the record"), (["other:1-5"], "'other'"):
        with pytest.raises(UsageError, match=words):
            evaluate_baselines(tmp_path / "c", table, question=requested, within=within, read_as=SIGNAL)
    with pytest.raises(UsageError, match="name the file"):
        evaluate_baselines(tmp_path / "c", question=requested, within=["line:341-380"])


def test_a_protocol_is_asked_again_until_there_are_enough_cells(run: Path) -> None:
    records = [("a", Encoded(np.zeros((64, 1), np.uint8)))]
    examples = draw(Question(cells=20), "isolated", records, NucleotideTokenizer(), context=64, masking=MaskingConfig())
    assert sum(len(p.cells) for p in examples) == 20
    assert len({int(p.cells[0, 0]) for p in examples}) > 5
    assert not draw(Question(cells=20), "gap-70", records, NucleotideTokenizer(), context=64, masking=MaskingConfig())
    with pytest.raises(UsageError, match="gap-70"):
        evaluate_run(run, question=Question(protocols=("gap-70",), every=False), trust_code=True)


def test_the_command_writes_json_and_a_page(run: Path, tmp_path: Path) -> None:
    result = maskseq(
        "evaluate", run, "--protocol", "masked", "--protocol", "gap-2", "--cells", 200, "-o", tmp_path / "out", "--few",
        "--trust-code", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == reported
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert f"{reported['protocols']['masked']['by']['model']['bits']:.4f}" in page
    assert "Whole gaps" in page
    assert reported["verdict"]["in words"].partition(":")[0] in page.partition("<h2>")[0]
    assert "http" not in page.replace("http-equiv", "")
    again = maskseq("evaluate", run, "--protocol", "masked", "--cells", 200, "--few", "--trust-code", "--json")
    assert json.loads(again.stdout)["protocols"]["masked"]["by"] == reported["protocols"]["masked"]["by"]


def test_progress_tells_of_counting_and_of_everybody_who_is_asked(run: Path) -> None:
    heard: list[tuple[str, int, int | None]] = []
    evaluate_run(
        run,
        question=Question(protocols=("gap-2",), cells=100, every=False),
        trust_code=True,
        on_progress=lambda *reported: heard.append(reported),
    )
    assert list(dict.fromkeys(what for what, _, _ in heard)) == [
        "counting on training data",
        "drawing cells",
        "gap-2, asking model",
        "gap-2, asking frequencies",
        "gap-2, asking 5 + 5 neighbours",
        "gap-2, asking order-2 Markov chain",
        "gap-2, filling gaps by model",
        "gap-2, filling gaps by 5 + 5 neighbours",
        "gap-2, filling gaps by the most frequent span",
    ]
    ends = {what: (done, of) for what, done, of in heard}
    assert ends["gap-2, asking model"] == ends["gap-2, filling gaps by model"] == (100, 100)


def test_baselines_need_no_model(run: Path) -> None:
    result = maskseq("baseline", run / "corpus", "--cells", 200, "--trust-code", "--json")
    assert result.exit_code == 0, result.output
    assert "model" not in json.loads(result.stdout)["protocols"]["masked"]["by"]


def test_baselines_are_those_of_a_run_or_a_recipe_too(run: Path, tmp_path: Path) -> None:
    """The same figures, whoever names the corpus."""
    rng = np.random.default_rng(0)
    fasta = tmp_path / "some.fasta"
    fasta.write_text("".join(f">{i}\n{''.join(rng.choice(list('ACGT'), size=120))}\n" for i in range(40)))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[data]\nfiles = ["{fasta}"]\nformat = "fasta"\n[data.split]\nselection = 0.2\n'
        '[tokenizer]\nname = "nucleotide"\n'
    )
    built = maskseq("tokenize", recipe, "--output", tmp_path / "corpus")
    assert built.exit_code == 0, built.output
    requested = ("--protocol", "isolated", "--cells", 100, "--json")
    reported = [json.loads(maskseq("baseline", source, *requested).stdout) for source in (recipe, tmp_path / "corpus")]
    assert reported[0]["protocols"] == reported[1]["protocols"]
    figures = reported[0]["protocols"]["isolated"]
    assert {"12 + 12 neighbours", "copies", "equal mixture", "frequencies"} <= set(figures["by"])
    assert figures["outside exact repeats"]["share left out"] == 0
    few = json.loads(maskseq("baseline", recipe, "--few", *requested).stdout)["protocols"]["isolated"]["by"]
    assert set(few) == {"frequencies", "5 + 5 neighbours", "order-2 Markov chain"}
    of_run = json.loads(maskseq("baseline", run, "--trust-code", "--few", *requested).stdout)
    of_corpus = json.loads(maskseq("baseline", run / "corpus", "--trust-code", "--few", *requested).stdout)
    assert of_run["protocols"] == of_corpus["protocols"]
    # Weights are never fitted on what may be asked about: of a corpus that is its selection data, not its training.
    other = tmp_path / "other.fasta"
    other.write_text(fasta.read_text().lower())
    for data, fitted in ((other, True), (fasta, False), (tmp_path / "corpus", True)):
        figures = json.loads(maskseq("baseline", recipe, data, *requested).stdout)["protocols"]["isolated"]["by"]
        assert ("fitted mixture" in figures) is fitted
    nothing = maskseq("baseline", tmp_path / "nowhere")
    assert nothing.exit_code in (2, 3)
    assert "nowhere" in nothing.stderr


def test_exact_repeats_are_left_out_of_the_same_figures() -> None:
    """Half of the asked sequences stand in longer ones of training: without them copies know nothing."""
    rng = np.random.default_rng(0)
    train = [rng.integers(4, size=(500, 1)).astype(np.uint8) for _ in range(4)]
    others = [rng.integers(4, size=(400, 1)).astype(np.uint8) for _ in range(4)]
    reported = judge(
        Question(protocols=("isolated",), cells=300, every=True),
        [(str(i), Encoded(ids)) for i, ids in enumerate([*(ids[50:450] for ids in train), *others])],
        Baselines(train, NucleotideTokenizer(), 5, every=True),
        context=400,
        masking=MaskingConfig(),
    ).to_json()["protocols"]["isolated"]
    outside = reported["outside exact repeats"]
    assert 0.4 < outside["share left out"] < 0.55
    assert outside["cells"] == round(reported["cells"] * (1 - outside["share left out"]))
    assert reported["by"]["copies"]["bits"] < 1.3 < 1.9 < outside["by"]["copies"]["bits"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "gap"], "unknown protocol 'gap'"),
        (["--baseline", "magic"], "unknown baseline 'magic'"),
        (["--corpus", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_one_line(run: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    result = maskseq("evaluate", run, "-o", tmp_path / "out", "--trust-code", *arguments)
    assert result.exit_code in (2, 3)
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
