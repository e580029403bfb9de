"""How names become code: installed plug-ins, `module:Class`, and names that are found inside folders."""

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import Letters, Lines, random_texts
from typer.testing import CliRunner, Result

import maskseq
from maskseq import plugins
from maskseq.apps.rows import rows_of_run
from maskseq.cli import app
from maskseq.contract import installed
from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, UsageError
from maskseq.model.checkpoint import seal
from maskseq.trained import load

TINY: dict[str, Any] = {
    "blend": False,
    "calibrate": False,
    "data": {"split": {"selection": 0.3}},
    "tokenizer": {},
    "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
    "packing": {"row_tokens": 128, "context": 32},
    "training": {"tokens": 500, "rows": 1, "precision": "fp32"},
}
BROKEN = {
    "absent": "no_such_module:Class",
    "lacking": "json:NoSuchClass",
    "leaving": "leaving_plugin:Class",
    "garbled": "garbled_plugin:Class",
    "raising": "raising_plugin:Class",
    "no-class": "json:dumps",
}


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class Package(Distribution):
    """An installed package, as far as entry points know."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def metadata(self) -> Any:
        return {"Name": self._name, "Version": "1.2.3"}

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return Path(path)


@pytest.fixture
def bad_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages that offer what cannot be loaded, and a name that is `fasta`'s, beside what is installed."""
    (tmp_path / "leaving_plugin.py").write_text("raise SystemExit(3)")
    (tmp_path / "garbled_plugin.py").write_text("def (:\n")
    (tmp_path / "raising_plugin.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    real = installed.entry_points

    def entry_points(*, group: str) -> list[EntryPoint]:
        package = Package("mess")
        points = [EntryPoint(name, value, group)._for(package) for name, value in BROKEN.items()]
        if group == "maskseq.formats":
            points += [EntryPoint("fasta", "other:Fasta", group)._for(Package("other-fasta"))]
        return [*points, *real(group=group)]

    monkeypatch.setattr(installed, "entry_points", entry_points)
    installed.offers.cache_clear()
    yield
    installed.offers.cache_clear()


@pytest.mark.usefixtures("bad_packages")
def test_broken_plug_ins_fail_only_where_they_are_asked_for(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="leaving"):
        formats = plugins.usable("formats")
    assert not formats.keys() & {*BROKEN, "fasta"}
    assert {"fastq", "event-csv", "wav"} <= formats.keys()
    with pytest.warns(UserWarning, match="skipped"):
        assert type(plugins.format_for(tmp_path / "x.fq")).__name__ == "Fastq"
    for name in (*BROKEN, "fasta"):
        with pytest.raises(UsageError, match=name) as caught:
            plugins.load("formats", name)
        assert "\n" not in str(caught.value).partition("\n\n")[0]
        assert ("other-fasta" if name == "fasta" else "mess") in str(caught.value) or name == "no-class"


@pytest.mark.usefixtures("bad_packages")
def test_doctor_lists_every_plug_in_and_why_some_do_not_load() -> None:
    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"maskseq", "python", "torch", "pydantic"} <= set(found["versions"])
    assert found["extras"]["serve"].startswith("fastapi ")
    assert found["machine"]["system"]
    rows = found["plug-ins"]
    assert all(set(row) == {"name", "group", "package", "version", "loads"} for row in rows)
    loads = {(row["name"], row["group"], row["package"]): row["loads"] for row in rows}
    assert loads["fastq", "formats", "maskseq"] == "yes"
    assert loads["nucleotide", "tokenizers", "maskseq"] == "yes"
    for name in BROKEN:
        assert loads[name, "formats", "mess"] != "yes"
    assert "twice" in loads["fasta", "formats", "maskseq"]
    assert "twice" in loads["fasta", "formats", "other-fasta"]
    table = cli("doctor")
    assert table.exit_code == 0
    assert "garbled" in table.stdout


@pytest.mark.usefixtures("bad_packages")
def test_commands_that_ask_for_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "case,activity,time\n" + "".join(f"c{c},{a},2024-01-{c + 1:02d}T10:00\n" for c in range(25) for a in "abc")
    )
    result = cli("init", tmp_path / "log.csv", "-o", tmp_path / "recipe.toml")
    assert result.exit_code == 0, result.output
    (tmp_path / "x.odd").write_text("?")
    result = cli("init", tmp_path / "x.odd", "-o", tmp_path / "y.toml")
    assert result.exit_code == 2
    assert "garbled" in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def letters_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tokenizer and format are code of these tests, which is not installed."""
    folder = tmp_path_factory.mktemp("letters")
    Lines().write(random_texts(30, 40), folder / "texts.lines")
    recipe = TINY | {
        "data": TINY["data"] | {"files": [str(folder / "texts.lines")], "format": "corpora:Lines", "workers": 1},
        "tokenizer": {"name": "corpora:Letters"},
    }
    run = maskseq.pretrain(recipe, output=folder / "run")
    assert list(run.score(run.reader(folder / "texts.lines").read(folder / "texts.lines")))
    again = maskseq.pretrain(recipe, output=folder / "run")
    assert again.tokenizer == run.tokenizer
    return folder


def test_code_of_a_folder_is_loaded_where_the_call_trusts_it_only(letters_run: Path) -> None:
    run, file = letters_run / "run", letters_run / "texts.lines"
    for use in (
        lambda: load(run),
        lambda: Corpus.open(run / "corpus"),
        lambda: rows_of_run(run),
        lambda: load(run, tokenizer=Letters(weighted=True)),
    ):
        with pytest.raises(UsageError, match="trust"):
            use()
    for command in ("inspect", "evaluate", "calibrate", "fit-lengths"):
        assert cli(command, run).exit_code == 2
    assert cli("infill", run, file).exit_code == 2
    assert rows_of_run(run, tokenizer=Letters()).row(0).n_tokens > 0

    loaded = load(run, tokenizer=Letters())  # an object that is here needs no trust, for the corpus of the run neither
    assert loaded.corpus().tokenizer == Letters()
    with pytest.raises(UsageError, match="corpora:Lines"):
        loaded.reader(file)  # the format is code of the folder all the same
    assert isinstance(loaded.reader(file, "corpora:Lines"), Lines)  # who names it in the call means it
    trusted = load(run, trust_code=True)
    assert isinstance(trusted.reader(file), Lines)
    assert trusted.corpus().fingerprint == loaded.corpus().fingerprint
    assert cli("evaluate", run, "--cells", 20, "--few", "--trust-code").exit_code == 0


def test_a_tokenizer_that_nobody_can_import_works_as_long_as_it_is_here(tmp_path: Path) -> None:
    class Local(Letters):
        """Of this function: no name leads to it."""

    records = random_texts(30, 40)
    run = maskseq.pretrain(TINY, output=tmp_path / "run", tokenizer=Local(), records=records)
    assert [score.key for score in run.score(records[:2])] == [record.key for record in records[:2]]
    assert load(tmp_path / "run", tokenizer=Local()).tokenizer == Local()
    with pytest.raises(UsageError):
        load(tmp_path / "run", trust_code=True)


def test_a_corpus_of_other_tokens_is_refused(letters_run: Path, tmp_path: Path) -> None:
    from corpora import Array, Numbers

    from maskseq.corpus.build import build_from_records

    rng = np.random.default_rng(0)
    arrays = [Array(key=f"a{i}", values=rng.integers(5000, size=(40, 2)).astype(np.uint16)) for i in range(20)]
    build_from_records(arrays, output=tmp_path / "other", tokenizer=Numbers())
    run = load(letters_run / "run", trust_code=True)
    with pytest.raises(UsageError, match="other"):
        run.corpus(tmp_path / "other")


def test_a_recipe_that_was_changed_after_training_is_reported(letters_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(letters_run / "run", run)
    recipe = run / "recipe.json"
    recipe.write_text(recipe.read_text().replace("corpora:Lines", "os:abort"))
    with pytest.raises(DataError, match=str(recipe)):
        load(run, trust_code=True)
    for checkpoint in (run / "checkpoints").iterdir():  # as it was before checkpoints had a copy
        (checkpoint / "recipe.json").unlink()
        (checkpoint / "digests.json").unlink()
        seal(checkpoint)
    opened = load(run, tokenizer=Letters())
    with pytest.raises(UsageError, match="os:abort"):
        opened.reader(letters_run / "texts.lines")
    with pytest.raises(UsageError, match="os"):
        load(run, trust_code=True).reader(letters_run / "texts.lines")  # it is no format, and is not called


def test_names_in_a_folder_do_not_lead_out_of_it(letters_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(letters_run / "run", run)
    checkpoint = max((run / "checkpoints").iterdir())
    digests = json.loads((checkpoint / "digests.json").read_text())
    (checkpoint / "digests.json").write_text(json.dumps(digests | {"../../../secret": "0"}))
    for other in (run / "checkpoints").iterdir():
        if other != checkpoint:
            shutil.rmtree(other)
    with pytest.warns(UserWarning, match="outside"), pytest.raises(DataError, match="outside"):
        load(run, trust_code=True)


def test_an_option_of_a_folder_cannot_take_the_place_of_an_argument(letters_run: Path, tmp_path: Path) -> None:
    for name in ("path", "name", "trust_code", "options"):
        with pytest.raises(UsageError, match=name):
            plugins.open_format(tmp_path / "x.fa", "fasta", {name: "x"}, trust_code=False)
