"""What makes a run, a corpus and a tokenizer the same: not the version, not where code lies, but what ids mean."""

import json
import re
import shutil
import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Lines, Text, random_texts, tree
from swapping import RECORDS, Weather

import maskseq
from maskseq import plugins
from maskseq.apps.rows import rows_of_run
from maskseq.cli import app
from maskseq.contract import installed, renamed
from maskseq.contract.identity import former_fingerprint
from maskseq.corpus import finish
from maskseq.corpus.build import build_corpus, build_from_records, build_share
from maskseq.corpus.reader import Corpus, verify_corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.model.checkpoint import seal
from maskseq.storage.folder import digest, to_json
from maskseq.storage.toml_text import recipe_text
from maskseq.tokenizer import Tokenizer
from maskseq.trained import load
from maskseq.types import Encoded, Field, ListRecord

TINY: dict[str, Any] = {
    "blend": False,
    "calibrate": False,
    "data": {"split": {"selection": 0.3}},
    "tokenizer": {},
    "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
    "packing": {"row_tokens": 128, "context": 32},
    "training": {"tokens": 500, "rows": 1, "precision": "fp32", "device": "cpu"},
}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    Lines().write(random_texts(60, 300), tmp_path / "texts.lines")
    return tmp_path / "texts.lines"


def recipe_of(file: Path) -> dict[str, Any]:
    data = TINY["data"] | {"files": [str(file)], "format": "corpora:Lines", "workers": 1}
    return TINY | {"data": data, "tokenizer": {"name": "corpora:Letters"}}


def as_before(folder: Path) -> None:
    """Rewrite the manifest of a corpus as it was before its identity stood apart from its digest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    tokenizer = {key: manifest["tokenizer"][key] for key in ("name", "state", "fingerprint")}
    names = ("format_version", "sources", "format", "part_units", "on_error", "variants", "replaces")
    described = {name: manifest[name] for name in (*names, "unknown_runs_from")} | {"tokenizer": tokenizer}
    parts = f"parts/{digest(to_json(described))[:12]}"
    (folder / manifest["parts_folder"]).rename(folder / parts)
    entries = [each | {"name": f"{parts}/{Path(each['name']).name}"} for each in manifest["parts"]]
    manifest |= {"tokenizer": tokenizer, "parts_folder": parts, "parts": entries}
    manifest = {key: value for key, value in manifest.items() if key not in ("digest", "identity")}
    (folder / "manifest.json").write_bytes(to_json(manifest | {"digest": digest(to_json(manifest))}))


def test_another_version_goes_on_with_corpora_and_runs_as_they_are(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> Corpus:
        return build_corpus([lines], output=tmp_path / "c", tokenizer=Letters(), format=Lines())

    begun, corpus = maskseq.pretrain(recipe_of(lines), output=tmp_path / "run"), build()
    manifests = [tmp_path / "c" / "manifest.json", tmp_path / "run" / "corpus" / "manifest.json"]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in manifests]
    monkeypatch.setattr(finish, "version", lambda name: "99.0")
    assert build().fingerprint == corpus.fingerprint
    assert maskseq.pretrain(recipe_of(lines), output=tmp_path / "run").checkpoint == begun.checkpoint
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in manifests] == before
    again = build_corpus([lines], output=tmp_path / "d", tokenizer=Letters(), format=Lines())
    assert again.manifest["maskseq"] == "99.0"
    assert again.fingerprint == corpus.fingerprint  # equal input is the same corpus in every version


@pytest.mark.parametrize("at", [b"99.0", b'"identity": "', b"alph"], ids=["version", "identity", "rest"])
def test_every_byte_of_a_manifest_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: bytes) -> None:
    monkeypatch.setattr(finish, "version", lambda name: "99.0")
    build_from_records([*random_texts(9, 50)], output=tmp_path / "c", tokenizer=Letters(), split=SplitConfig(by="none"))
    path = tmp_path / "c" / "manifest.json"
    data = path.read_bytes()
    place = data.find(at) if at in data else len(data) // 2
    path.write_bytes(data[: place + len(at)] + bytes([data[place + len(at)] ^ 1]) + data[place + len(at) + 1 :])
    assert verify_corpus(tmp_path / "c", trust_code=True)


def test_a_manifest_with_the_version_in_its_digest_stays_what_it_is(lines: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"output": tmp_path / "c", "tokenizer": Letters(), "format": Lines()}
    build_corpus([lines], **options)
    as_before(tmp_path / "c")
    before = tree(tmp_path / "c")
    assert verify_corpus(tmp_path / "c", trust_code=True) == []
    known = Corpus.open(tmp_path / "c", trust_code=True).fingerprint
    assert known == json.loads(before["manifest.json"])["digest"]
    assert build_corpus([lines], **options).fingerprint == known
    assert tree(tmp_path / "c") == before
    assert build_corpus([lines], **options, split=SplitConfig(seed=5)).fingerprint != known


def test_a_build_that_an_older_version_began_goes_on(lines: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"tokenizer": Letters(), "format": Lines(), "part_units": 2000}
    build_corpus([lines], output=tmp_path / "whole", **options)
    as_before(tmp_path / "whole")
    build_corpus([lines], output=tmp_path / "c", **options)
    as_before(tmp_path / "c")
    for path in (tmp_path / "c" / "manifest.json", *(tmp_path / "c").glob("sequences-*")):
        path.unlink()
    parts = sorted((tmp_path / "c" / "parts").glob("*/*.zarr"))
    shutil.rmtree(parts[1])
    kept = {path: (path / "part.json").stat().st_mtime_ns for path in parts if path != parts[1]}
    build_share([lines], (1, 1), output=tmp_path / "c", **options)
    build_corpus([lines], output=tmp_path / "c", **options)
    assert {path: (path / "part.json").stat().st_mtime_ns for path in kept} == kept
    found, whole = (Corpus.open(tmp_path / name, trust_code=True) for name in ("c", "whole"))
    assert [found.read(i).ids.tolist() for i in range(9)] == [whole.read(i).ids.tolist() for i in range(9)]
    assert found.manifest["parts"] == whole.manifest["parts"]


# ---- what ids mean ----------------------------------------------------------------------------------------------


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a plug-in that has swapped two tokens since."""
    monkeypatch.setenv("MASKSEQ_TEST_ORDER", "sky")
    maskseq.pretrain(TINY, output=tmp_path / "run", tokenizer=Weather(), records=RECORDS)
    assert load(tmp_path / "run", tokenizer=Weather()).tokenizer == Weather()
    monkeypatch.setenv("MASKSEQ_TEST_ORDER", "other")
    return tmp_path / "run"


def test_swapped_tokens_are_named_wherever_a_run_or_a_corpus_is_opened(weather: Path) -> None:
    for opened in (
        lambda: load(weather, trust_code=True),
        lambda: load(weather, tokenizer=Weather()),
        lambda: Corpus.open(weather / "corpus", trust_code=True),
        lambda: Corpus.open(weather / "corpus", known=Weather()),
        lambda: maskseq.pretrain(TINY, output=weather, tokenizer=Weather(), records=RECORDS),
        lambda: maskseq.pretrain(
            TINY, output=weather.with_name("more"), tokenizer=Weather(), records=RECORDS, extend=weather
        ),
    ):
        with pytest.raises(UsageError) as caught:
            opened()
        for word in ("'sky'", "tokens", "1", '"cloud"', '"rain"'):
            assert word in str(caught.value)


def test_a_resume_compares_with_the_checkpoint_where_the_corpus_cannot_tell(
    weather: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKSEQ_TEST_ORDER", "sky")
    as_before(weather / "corpus")
    recipe = json.loads((weather / "recipe.json").read_text())
    manifest = json.loads((weather / "corpus" / "manifest.json").read_text())
    (weather / "recipe.json").write_text(json.dumps(recipe | {"corpus": manifest["digest"]}))
    corpus = Corpus.open(weather / "corpus", known=Weather())
    monkeypatch.setenv("MASKSEQ_TEST_ORDER", "other")
    monkeypatch.delitem(corpus.tokenizer.__dict__, "fingerprint", raising=False)
    with pytest.raises(UsageError, match="cloud"):
        maskseq.pretrain(TINY, output=weather, corpus=corpus)


def test_checkpoints_hold_the_tokens(weather: Path) -> None:
    for path in weather.rglob("tokenizer.json"):
        (sky,) = json.loads(path.read_text())["fields"]
        assert sky["name"] == "sky"
        assert sky["tokens"] == ["sun", "cloud", "rain"]


@dataclass(frozen=True)
class Plain(Tokenizer[ListRecord]):
    fields = (Field(name="x", tokens=("a",)),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.zeros((len(record), 1), np.uint8))

    def decode(self, ids: np.ndarray) -> Any:
        return ids


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": ("a", "b")}, ("'x'", "3", "2")),
        ({"name": "y"}, ("x", "y")),
        ({"controls": ("[OTHER]",)}, ("'x'", "controls")),
        ({"centres": (0.0, 1.0, 2.5)}, ("'x'", "centres", "2.5")),
        ({"unit": "mV"}, ("'x'", "unit", "mV")),
        ({"source": "lead"}, ("'x'", "source", "lead")),
    ],
)
def test_each_attribute_of_a_field_is_part_of_what_a_tokenizer_is(change: dict[str, Any], words: tuple[str]) -> None:
    plain = {"name": "x", "tokens": ("a", "b", "c"), "centres": (0.0, 1.0, 2.0)}
    changed = plain | change
    if "tokens" in change:
        changed["centres"] = (0.0, 1.0)
    one, other = (type("Some", (Plain,), {"fields": (Field(**each),)}) for each in (plain, changed))
    saved = json.loads(json.dumps(plugins.tokenizer_to_json(one())))
    assert one().fingerprint != other().fingerprint
    with pytest.raises(UsageError) as caught:
        plugins.tokenizer_from_json(saved, known=other())
    for word in words:
        assert word in str(caught.value)


def test_the_file_of_code_may_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object is known by its class's name, an installed plug-in by its entry point, wherever their modules are."""
    monkeypatch.setenv("MASKSEQ_TEST_ORDER", "sky")
    run = maskseq.pretrain(TINY, output=tmp_path / "run", tokenizer=Weather(), records=RECORDS)
    moved = ModuleType("moved_weather")
    Moved = type("Weather", (Weather,), {"__module__": "moved_weather"})
    Moved.__qualname__ = "Weather"
    moved.Weather = Moved = dataclass(frozen=True, kw_only=True)(Moved)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moved_weather", moved)
    assert Moved().fingerprint == Weather().fingerprint
    assert type(load(tmp_path / "run", tokenizer=Moved()).tokenizer) is Moved
    assert Corpus.open(tmp_path / "run" / "corpus", known=Moved()).fingerprint == run.corpus().fingerprint


def test_built_in_tokenizers_are_known_by_the_modules_that_they_were_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the first kind say a fingerprint of module, class and state; the class may lie elsewhere since."""
    from maskseq_genomics.nucleotide import NucleotideTokenizer

    tokenizer = NucleotideTokenizer(soft_mask_weight=0.5)
    saved = {key: plugins.tokenizer_to_json(tokenizer)[key] for key in ("name", "state", "fingerprint")}
    identity = ["maskseq_genomics.nucleotide", "NucleotideTokenizer", tokenizer.state()]
    assert saved["fingerprint"] == digest(json.dumps(identity, sort_keys=True).encode())
    monkeypatch.setattr(NucleotideTokenizer, "__module__", "maskseq_genomics.letters_of_dna")
    assert plugins.tokenizer_from_json(saved) == tokenizer
    assert former_fingerprint(NucleotideTokenizer(soft_mask_weight=0.5)) == saved["fingerprint"]
    with pytest.raises(UsageError, match="fingerprint"):
        plugins.tokenizer_from_json(saved | {"state": saved["state"] | {"soft_mask_weight": 0.25}})


def test_all_built_in_tokenizers_have_their_former_names() -> None:
    ours = [name for name in plugins.available("tokenizers") if installed.offers("tokenizers")[name][0].dist]
    built_in = [n for n in ours if installed.offers("tokenizers")[n][0].dist.metadata["Name"] == "maskseq"]
    assert set(built_in) - {"columns"} <= set(renamed.CLASSES)  # that one came later


# ---- names and options that change --------------------------------------------------------------------------------


def weather_of_two_options(n: int, **defaults: Any) -> type[Tokenizer[Any]]:
    """As the plug-in was (1), with an option more (2), with its option under another name (3)."""
    options: list[Any] = [("grain" if n == 3 else "size", int, field(default=1, kw_only=True))]
    if n == 2:
        options.append(("more", int, field(default=7, kw_only=True)))
    made = make_dataclass("Options", options, bases=(Weather,), frozen=True, kw_only=True)
    made.__module__ = __name__
    return made


def test_an_option_that_is_added_or_renamed_changes_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (weather_of_two_options(n) for n in (1, 2, 3))
    assert first(size=3).fingerprint == second(size=3).fingerprint != second(size=3, more=8).fingerprint
    for former in (False, True):
        saved = plugins.tokenizer_to_json(first(size=3))
        if former:
            del saved["fields"]
        for cls in (second, third):
            monkeypatch.setattr(sys.modules[__name__], "Options", cls, raising=False)
            monkeypatch.setattr(renamed, "STATE", {"Options": {"size": "grain"}} if cls is third else {})
            option = "grain" if cls is third else "size"
            assert plugins.tokenizer_from_json(saved, trust_code=True) == cls(**{option: 3})
            assert plugins.tokenizer_from_json(saved, known=cls(**{option: 3})) == cls(**{option: 3})
            with pytest.raises(UsageError):
                plugins.tokenizer_from_json(saved, known=cls(**{option: 4}), trust_code=False)


# ---- runs from records ---------------------------------------------------------------------------------------------


def test_the_same_records_go_on_and_others_are_refused(tmp_path: Path) -> None:
    records = random_texts(40, 60)
    recipe = TINY | {"tokenizer": {"name": "corpora:Letters"}}

    def pretrain(given: Any, **options: Any) -> maskseq.Run:
        return maskseq.pretrain(recipe, output=tmp_path / "run", records=given, **options)

    first = pretrain(records)
    before = tree(tmp_path / "run" / "corpus")
    assert pretrain(iter(random_texts(40, 60))).checkpoint == first.checkpoint
    assert pretrain(records, tokenizer=Letters()).checkpoint == first.checkpoint
    changed = [*records[:-1], Text(key=records[-1].key, text=records[-1].text[::-1] + "a")]
    renamed_key = [*records[:-1], Text(key="else", text=records[-1].text)]
    for others in (records[:-1], [*records, records[0]], changed, renamed_key):
        with pytest.raises(UsageError, match="other records"):
            pretrain(others)
        with pytest.raises(UsageError, match="records"):
            maskseq.pretrain(recipe, output=tmp_path / "run", records=others)
    with pytest.raises(UsageError):
        pretrain(records, tokenizer=Letters(weighted=True))
    assert tree(tmp_path / "run" / "corpus") == before


def test_records_are_compared_by_what_they_hold_not_by_how_it_was_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = random_texts(60, 300)
    options: dict[str, Any] = {"output": tmp_path / "c", "tokenizer": Letters(weighted=True), "part_units": 2000}
    first = build_from_records(texts, **options)
    assert len(first.manifest["parts"]) > 3
    monkeypatch.setattr("maskseq.corpus.write.CHUNK_BYTES", 128)
    assert build_from_records(texts, **options).fingerprint == first.fingerprint
    requested: list[Text] = []
    with pytest.raises(UsageError, match="other records"):
        build_from_records((requested.append(text) or text for text in texts[1:]), **options)
    assert len(requested) < len(texts) // 2  # the first part tells


def test_no_hint_names_an_option_that_no_command_has(tmp_path: Path, lines: Path) -> None:
    build_corpus([lines], output=tmp_path / "c", tokenizer=Letters(), format=Lines())
    with pytest.raises(UsageError) as caught:
        build_corpus([lines], output=tmp_path / "c", tokenizer=Letters(weighted=True), format=Lines())
    assert "weighted" in str(caught.value)
    package = Path(maskseq.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(path.read_text() for path in (package / "cli").glob("*.py"))))
    commands = get_command(app)
    for command in commands.commands.values():  # type: ignore[attr-defined]
        known |= {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
    named = set(re.findall(r"hint: [^\n]*?(--[a-z][a-z-]+)", text))
    assert "--trust-code" in named
    assert named <= known


def test_the_command_goes_on_with_the_tokenizer_that_it_began_with(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may fit another one to the same file: nothing is fitted again."""
    (tmp_path / "recipe.toml").write_text(recipe_text(recipe_of(lines), {}, "a test"))
    command = ["pretrain", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "run")]
    assert CliRunner().invoke(app, command).exit_code == 0
    monkeypatch.setattr("maskseq.apps.prepare.fit_tokenizer", None)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output


# ---- what is counted once ------------------------------------------------------------------------------------------


def test_tables_are_counted_where_no_checkpoint_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = random_texts(40, 60)
    recipe = TINY | {"tokenizer": {"name": "corpora:Letters"}, "model": TINY["model"] | {"ngram_prior": {"depth": 1}}}
    whole = maskseq.pretrain(recipe, output=tmp_path / "whole", records=records)
    few = TINY["training"] | {"checkpoint_every": 128}

    def stop(event: Any) -> None:
        if type(event).__name__ == "CheckpointSaved" and event.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maskseq.pretrain(recipe | {"training": few}, output=tmp_path / "run", records=records, on_event=stop)
    monkeypatch.setattr("maskseq.model.encoder.Embeddings.count", None)
    resumed = maskseq.pretrain(recipe | {"training": few}, output=tmp_path / "run", records=records)
    maskseq.pretrain(recipe, output=tmp_path / "more", records=records, extend=whole.path)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


# ---- recipes of other versions -------------------------------------------------------------------------------------


def test_a_run_goes_on_under_a_recipe_with_more_keys_and_other_names(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if `optimizer.momentum` had come later, `masking.ratio` had been `masking.share`, and the corpus `data`."""
    recipe, run = recipe_of(lines), tmp_path / "run"
    recipe = recipe | {"masking": {"ratio": 0.25}}
    first = maskseq.pretrain(recipe, output=run)

    def rewritten(change: Any) -> None:
        saved = json.loads((run / "recipe.json").read_text())
        change(saved["recipe"])
        for path in (run, *(run / "checkpoints").iterdir()):
            (path / "recipe.json").write_text(json.dumps(saved))
            if path != run:
                (path / "digests.json").unlink()
                seal(path)

    def older(saved: dict[str, Any]) -> None:
        saved["masking"]["share"] = saved["masking"].pop("ratio")
        del saved["optimizer"]["momentum"]

    rewritten(older)
    before = (run / "recipe.json").read_bytes()
    with pytest.raises(UsageError, match="masking"):
        maskseq.pretrain(recipe, output=run)
    monkeypatch.setattr(renamed, "RECIPE", {"masking.share": "masking.ratio"})
    monkeypatch.setattr(renamed, "FOLDERS", {"corpus": ("data",)})
    (run / "corpus").rename(run / "data")
    assert maskseq.pretrain(recipe, output=run).checkpoint == first.checkpoint
    with pytest.warns(FutureWarning, match="masking.ratio"):
        assert maskseq.pretrain(recipe | {"masking": {"share": 0.25}}, output=run).checkpoint == first.checkpoint
    assert (run / "recipe.json").read_bytes() == before
    assert rows_of_run(run, tokenizer=Letters()).masking.ratio == 0.25
    assert load(run, trust_code=True).corpus().fingerprint == first.corpus(run / "data").fingerprint
    monkeypatch.setattr(renamed, "ADDED", {"optimizer.momentum": 0.5})
    with pytest.raises(UsageError, match=r"momentum"):
        maskseq.pretrain(recipe, output=run)
    assert maskseq.pretrain(recipe | {"optimizer": {"momentum": 0.5}}, output=run).checkpoint == first.checkpoint
