"""What makes a run, a corpus and a tokenizer the same: not the version, not where code lies, but what ids mean."""

import json
import shutil
import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Lines, random_texts, tree
from swapping import RECORDS, Weather

import maskseq
from maskseq import installed, plugins, renamed
from maskseq.data import finish
from maskseq.data.build import build_corpus, build_from_records, build_share
from maskseq.data.corpus import Corpus, verify_corpus
from maskseq.data.splits import SplitConfig
from maskseq.data.storage import digest, to_json
from maskseq.errors import UsageError
from maskseq.identity import former_fingerprint
from maskseq.run import load
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord

TINY: dict[str, Any] = {
    "data": {"split": {"validation": 0.3}},
    "tokenizer": {},
    "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
    "batch": {"row_tokens": 128, "context": 32},
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
    assert set(built_in) <= set(renamed.CLASSES)


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
