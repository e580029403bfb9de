"""Another file as the test, or as the selection data: what is read of it, and what it shares with training files."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Lines, Text, complement, random_texts, tree

import maskseq
from maskseq.apps.evaluate import evaluate_baselines, evaluate_run
from maskseq.apps.inspect import inspect
from maskseq.cli import app
from maskseq.comparison.question import Question
from maskseq.corpus.build import build_corpus, build_from_records, build_share
from maskseq.corpus.reader import Corpus, Split
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq.recipe import load_recipe

PARTS: tuple[Split, ...] = ("train", "selection", "test")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A file to train on, one for selection and one for the test, which share keys and, turned around, contents."""
    texts = random_texts(150, 60)
    texts = [text for text in texts if len(text) > 12]
    shared = [Text(key="turned", text=complement(texts[3]).text), Text(key="again", text=texts[5].text)]
    late = random_texts(40, 60, seed=1)
    Lines().write(texts, tmp_path / "train.lines")
    Lines().write([Text(key=f"s{i}", text=each.text) for i, each in enumerate(late[:15])], tmp_path / "selection.lines")
    Lines().write([*shared, *(each for each in late if len(each) > 12)], tmp_path / "test.lines")
    return tmp_path


def parts_of(corpus: Corpus) -> list[list[tuple[str, str]]]:
    """Keys and texts of each part."""
    return [[(corpus.key(i), corpus.tokenizer.decode(each.ids)) for i, each in corpus.each(name)] for name in PARTS]


def lines_of(path: Path) -> list[tuple[str, str]]:
    return [(record.key, record.text) for record in Lines().read(path)]


def build(files: Path, output: str, split: SplitConfig, **options: Any) -> Corpus:
    given = {"tokenizer": Letters(), "format": Lines(), "part_units": 700, **options}
    build_corpus([files / "train.lines"], output=files / output, split=split, **given)
    return Corpus.open(files / output, trust_code=True)


@pytest.mark.parametrize("by", ["record", "region", "none"])
@pytest.mark.parametrize("duplicates", ["together", "ignore"])
def test_the_records_of_a_file_are_the_test_part(files: Path, by: Any, duplicates: Any) -> None:
    options: dict[str, Any] = {"by": by, "selection": 0.2, "guard": 2, "duplicates": duplicates}
    test = str(files / "test.lines")
    corpus = build(files, "c", SplitConfig(test=test, **options))
    alone = build(files, "alone", SplitConfig(**options))
    train, selection, requested = parts_of(corpus)
    assert [train, selection, []] == parts_of(alone)  # the file changes nothing of them
    trained_on = {text for _, text in lines_of(files / "train.lines")}
    copies = [
        (key, text)
        for key, text in lines_of(files / "test.lines")
        if {text, complement(Text(key="", text=text)).text} & trained_on
    ]
    assert len(copies) == 2
    left = copies if duplicates == "together" else []
    assert requested == [each for each in lines_of(files / "test.lines") if each not in left]
    keys = {key for key, _ in lines_of(files / "train.lines")}
    assert corpus.manifest["split"]["files"]["test"] == {
        "records": len(lines_of(files / "test.lines")),
        "keys_shared": sum(key in keys for key, _ in lines_of(files / "test.lines")),
        "contents_shared": 2,
        "left_out": len(left),
    }
    assert corpus.judged == "test"
    assert corpus.fingerprint != alone.fingerprint
    assert not corpus.verify()


def test_both_parts_may_be_files(files: Path) -> None:
    split = SplitConfig(selection=str(files / "selection.lines"), test=str(files / "test.lines"))
    corpus = build(files, "c", split)
    train, selection, test = parts_of(corpus)
    assert train == lines_of(files / "train.lines")
    assert selection == lines_of(files / "selection.lines")
    earlier = {text for _, text in (*train, *selection)}  # short ones of the test file were drawn as those of selection
    earlier |= {complement(Text(key="", text=text)).text for text in earlier}
    assert test == [each for each in lines_of(files / "test.lines") if each[1] not in earlier]
    assert set(corpus.manifest["split"]["files"]) == {"validation", "test"}
    assert corpus.split_config.files == {1: "selection.lines", 2: "test.lines"}


def test_any_way_to_build_gives_the_same(files: Path, tmp_path: Path) -> None:
    split = SplitConfig(selection=0.2, test=str(files / "test.lines"))
    whole = build(files, "whole", split)
    options: dict[str, Any] = {"tokenizer": Letters(), "format": Lines(), "split": split, "part_units": 700}
    for number in (2, 1):
        build_share([files / "train.lines"], (number, 2), output=files / "shares", **options)
    assert build(files, "shares", split).fingerprint == whole.fingerprint
    before = tree(files / "whole")
    build(files, "whole", split)
    assert tree(files / "whole") == before
    texts = list(Lines().read(files / "train.lines"))
    for _ in range(2):
        made = build_from_records(texts, output=files / "records", **options)
        assert parts_of(made) == parts_of(whole)
    with (files / "test.lines").open("a") as file:
        file.write("more abcdabcdaabbccdd\n")
    with pytest.raises(UsageError, match="other"):
        build_from_records(texts, output=files / "records", **options)
    with pytest.raises(UsageError, match="other input"):
        build(files, "whole", split)
    assert build(files, "other", split).fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"test": 1.5}, None),
        ({"test": ""}, None),
        ({"test": "FILE", "test_keys": ("r1",)}, None),
        ({"selection": "FILE", "regions": ("r1:1-2",)}, None),
        ({"test": "FILE", "selection": "FILE"}, None),
        ({"test": "FILE"}, None),
        ({"test": "FILE"}, ""),
        ({"test": "FILE"}, "x abc\nabd d!d\n"),
        ({"test": "FILE"}, "COPY"),
    ],
)
def test_what_cannot_be_a_part_is_refused(files: Path, options: dict[str, Any], content: str | None) -> None:
    other = files / "other.lines"
    if content == "COPY":
        shutil.copy(files / "train.lines", other)
    elif content is not None:
        other.write_text(content)
    given = {key: str(other) if value == "FILE" else value for key, value in options.items()}
    with pytest.raises((UsageError, DataError)) as raised:
        build(files, "c", SplitConfig(**given))
    assert "\n" not in str(raised.value).partition("\n\nhint")[0]
    assert not (files / "c" / "manifest.json").exists()


# ---- recipes ------------------------------------------------------------------------------------------------------


def log(path: Path, *, seed: int, first: int, n: int = 60, extra: str = "") -> Path:
    rng = np.random.default_rng(seed)
    rows = ["case,activity,time"]
    for case in range(first, first + n):
        begin = np.datetime64("2024-01-01") + np.timedelta64(5 * case, "h")
        rows += [
            f"c{case},{rng.choice(list('abcd'))},{begin + np.timedelta64(i, 'm')}".replace("T", " ")
            for i in range(int(rng.integers(3, 9)))
        ]
    path.write_text("\n".join(rows) + "\n" + extra)
    return path


def command(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_from_init_to_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    train = log(tmp_path / "logs" / "log.csv", seed=0, first=0)
    first = "\n".join(train.read_text().splitlines()[1:3]).replace("c0,", "copied,") + "\n"
    test = log(tmp_path / "logs" / "later.csv", seed=1, first=59, n=31, extra=first)  # c59 is in both
    sizes = ("training.tokens=400", "packing.row_tokens=128", "packing.context=32", "model.n_layers=1")
    sizes += ('data.split.by="time"', "blend=false", "calibrate=false", "training.comparison_cells=50")
    chosen = [word for each in (*sizes, f"data.split.test={test}") for word in ("--set", each)]
    command("init", train, "-o", tmp_path / "recipe.toml", *chosen, "--yes")
    assert 'test = "logs/later.csv"' in (tmp_path / "recipe.toml").read_text()
    monkeypatch.chdir(tmp_path / "logs")
    dry = command("pretrain", "../recipe.toml", "--dry-run", "--json")
    assert "later.csv" in dry.stderr
    reported = json.loads(dry.stdout)["data"]["held-out files"]["test"]
    assert (reported["records"], reported["keys_shared"], reported["contents_shared"]) == (32, 1, 0)
    for words in ("test data", ""):  # the second time there is nothing left to do
        message = command("pretrain", "../recipe.toml", "-o", tmp_path / "run")
        assert words in message.stderr
        assert "later.csv" in message.stderr
    corpus = maskseq.load(tmp_path / "run").corpus()
    expected = {line.partition(",")[0] for line in test.read_text().splitlines()[1:]}
    assert {corpus.key(i) for i in corpus.sequences("test")} == expected
    assert not {"c70", "copied"} & {corpus.key(i) for i in corpus.sequences("train")}
    assert inspect(tmp_path / "run" / "corpus")["sources"].keys() == {"log.csv", "later.csv (test data)"}
    question = Question(cells=200, every=False)
    assert "test data" in evaluate_run(tmp_path / "run", question=question).to_json()["of"]["data"]
    every = evaluate_baselines(tmp_path / "recipe.toml", question=Question(cells=60)).to_json()
    assert "test data" in every["of"]["data"]
    requested = evaluate_baselines(tmp_path / "run", test, question=Question(cells=60)).to_json()
    assert "fitted mixture" in json.dumps(every)
    assert "fitted mixture" in json.dumps(requested)  # it is not the file that weights are fitted on


def test_where_files_lie_is_not_what_a_recipe_is(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        text = 'data = { files = ["x.csv"], split = { test = "t.csv" } }\ntokenizer = { name = "event" }\n'
        (tmp_path / folder / "recipe.toml").write_text(text)
    one, other = (load_recipe(tmp_path / folder / "recipe.toml") for folder in ("a", "b"))
    assert one.data.split.test == str(tmp_path / "a" / "t.csv") != other.data.split.test
    assert one.identity() == other.identity()
    assert one.identity() != load_recipe(one, ["data.split.test=u.csv"]).identity()
    with pytest.warns(FutureWarning, match="selection"):  # an identity has the names that it had
        assert load_recipe(one.identity()["recipe"]).identity() == one.identity()
    assert load_recipe(one, ["data.split.test=0.1"]).data.split.test == 0.1


def test_records_of_any_origin_take_a_file_as_the_test(tmp_path: Path) -> None:
    Lines().write(random_texts(20, 50, seed=3), tmp_path / "test.lines")
    recipe = {
        "data": {"split": {"test": str(tmp_path / "test.lines")}, "format": "corpora:Lines"},
        "tokenizer": {},
        "model": {"preset": "nano", "n_layers": 1},
        "packing": {"row_tokens": 256, "context": 64},
        "training": {"tokens": 500},
    }
    for _ in range(2):
        with pytest.warns(UserWarning, match="test.lines"):
            run = maskseq.pretrain(recipe, output=tmp_path / "run", tokenizer=Letters(), records=random_texts(60, 50))
        assert len(run.corpus().sequences("test")) == 20
