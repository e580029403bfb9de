"""Recipes: what a user types is either understood exactly or refused with the nearest right word."""

import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from maskseq.apps.pretrain import pretrain
from maskseq.apps.samples import recipes
from maskseq.errors import UsageError
from maskseq.recipe import Recipe, canonical, load_recipe
from maskseq.storage.toml_text import recipe_text

MINIMAL = {"data": {"files": ["a.fa"]}, "tokenizer": {"name": "nucleotide"}}


@pytest.mark.parametrize("path", recipes().values(), ids=recipes())
def test_every_shipped_recipe_loads_and_survives_a_round_trip(path: Path) -> None:
    recipe = load_recipe(path)
    assert load_recipe(recipe.to_json()) == recipe


def test_files_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[data]\nfiles = ["x/a.fa"]\n[tokenizer]\nname = "nucleotide"\n')
    assert load_recipe(tmp_path / "r.toml").data.files == (str(tmp_path / "x/a.fa"),)


def test_the_guard_gap_is_one_context_unless_it_is_given() -> None:
    assert load_recipe(MINIMAL, ["packing.context=512"]).data.split.guard == 512
    assert load_recipe(MINIMAL, ["packing.context=512", "data.split.guard=7"]).data.split.guard == 7


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("masking.ratio=0.4", lambda r: r.masking.ratio == 0.4),
        ("masking.ratio=[0.1, 0.5]", lambda r: r.masking.ratio == (0.1, 0.5)),
        ("optimizer.lr=3e-4", lambda r: r.optimizer.lr == 3e-4),  # YAML would read a string here
        ("optimizer.name=adamw", lambda r: r.optimizer.name == "adamw"),  # no quotes needed in a shell
        ("training.tokens=3_000_000", lambda r: r.training.tokens == 3_000_000),
        ("model.n_layers=6", lambda r: r.model.get("n_layers") == 6),
        ("data.split.selection=0.1", lambda r: r.data.split.selection == 0.1),
    ],
)
def test_an_override_lands_where_it_says(override: str, read: Callable[[Recipe], bool]) -> None:
    assert not read(load_recipe(MINIMAL))
    assert read(load_recipe(MINIMAL, [override]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("masking.ration=0.4", "did you mean 'ratio'"),
        ("maskin.ratio=0.4", "did you mean 'masking'"),
        ("data.split.validaton=0.1", "did you mean 'validation'"),
        ("model.n_layer=6", "did you mean 'n_layers'"),
        ("masking.ratio", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("masking.ratio.x=1", "is a value, not a section"),
        ("training.tokens=many", "training.tokens"),
        ("training.tokens=-1", "tokens must be at least 1"),
        ("masking.ratio=1.5", "must lie above 0 and at most at 1"),
        ("optimizer.name=adam", "optimizer.name"),
        ("seed=1.5", "seed"),
        ("masking.spans=3", "masking.spans"),
    ],
)
def test_a_wrong_override_is_refused_with_a_hint(override: str, message: str) -> None:
    base = MINIMAL | {"masking": {"ratio": 0.3}}
    with pytest.raises(UsageError, match=message):
        load_recipe(base, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data\n", "not valid TOML"),
        ('[tokenizer]\nname = "nucleotide"\n', "data"),
        ('tokenizer = "nucleotide"\n[data]\n', "tokenizer"),
        ("data = 3\n[tokenizer]\n", "data"),
        ("[data]\nfiles = [1]\n[tokenizer]\n", "data.files"),
        ("[data]\n[tokenizer]\n[trainin]\n", "did you mean 'training'"),
    ],
)
def test_a_broken_recipe_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)


def test_a_missing_recipe_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recipe"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_may_not_be_binary(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "r.toml")


def test_the_model_section_is_checked_against_the_encoder() -> None:
    from maskseq.types import Field, Vocabulary

    vocabulary = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])
    config = load_recipe(MINIMAL, ["model.preset=tiny", "model.n_layers=3"]).encoder_config(vocabulary)
    assert (config.n_layers, config.hidden_size) == (3, 192)
    with pytest.raises(UsageError, match="model: n_layers"):
        load_recipe(MINIMAL, ["model.n_layers=lots"]).encoder_config(vocabulary)
    with pytest.raises(UsageError, match="no preset"):
        load_recipe(MINIMAL, ["model.preset=nan"]).encoder_config(vocabulary)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["schedule.warmup=0.5", "schedule.decay=0.6"], "schedule"),
        (["training.tokens=1000", "schedule.decay=2000"], "schedule"),
        (["training.tokens=1000", "training.first_rows=1", "training.rows_warmup=2000"], "rows_warmup"),
        (["model.preset=bert-base", "packing.context=1024"], "max_positions"),
        (["seed=-1"], "seed"),
        (["model.context_sees_target=false"], "infill"),
        (["masking.field_weights.nothing=2"], "nothing"),
        (["masking.field_weights.base=0"], "field_weights"),
        (["model.ngram_prior.depth=9"], "ngram_prior"),
    ],
)
def test_sections_that_do_not_fit_are_refused_before_a_corpus_is_built(
    overrides: list[str], named: str, tmp_path: Path
) -> None:
    (tmp_path / "a.fa").write_text(">x\n" + "ACGT" * 100 + "\n")
    recipe = MINIMAL | {"data": {"files": [str(tmp_path / "a.fa")]}}
    with pytest.raises(UsageError, match=named):
        pretrain(recipe, output=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


OLDER = """
[data]
files = ["a.csv"]
[tokenizer]
name = "quantize"
[model]
waves = 16
linear_context = [1, 2]
periods = [24]
neighbours = [[1, 0]]
context_table = 1
[batch]
row_tokens = 512
context = 64
"""
TODAY = (
    OLDER[: OLDER.index("waves")]
    + """
ordinal_basis.cosines = 16
linear_prior.distances = [1, 2]
phase_embeddings.periods = [24]
ngram_embeddings.contexts = [[1, 0]]
ngram_prior.depth = 1
[packing]
row_tokens = 512
context = 64
"""
)


def test_older_names_of_keys_and_sections_mean_what_they_meant(tmp_path: Path) -> None:
    for name, text in (("older", OLDER), ("today", TODAY)):
        (tmp_path / f"{name}.toml").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        today = load_recipe(tmp_path / "today.toml")
    with pytest.warns(FutureWarning) as raised:
        older = load_recipe(tmp_path / "older.toml")
    (warning,) = [str(each.message) for each in raised if each.category is FutureWarning]
    assert "\n" not in warning
    assert all(name in warning for name in ("older.toml", "model.waves", "model.ordinal_basis.cosines", "packing"))
    assert older == today
    assert older.identity() == today.identity()
    saved = {"recipe": tomllib.loads(OLDER)}
    assert canonical(saved) == canonical({"recipe": tomllib.loads(TODAY)})


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ("model.waves=8", "model.ordinal_basis.cosines=8"),
        ("model.context_table=2", "model.ngram_prior.depth=2"),
        ("batch.row_tokens=4096", "packing.row_tokens=4096"),
        ("batch={row_tokens=4096}", "packing={row_tokens=4096}"),
        ("model={waves=8}", "model={ordinal_basis={cosines=8}}"),
    ],
)
def test_older_names_of_keys_may_be_set(older: str, today: str) -> None:
    with pytest.warns(FutureWarning, match="ordinal_basis|ngram_prior|packing"):
        assert load_recipe(MINIMAL, [older]) == load_recipe(MINIMAL, [today])


@pytest.mark.parametrize(
    "both",
    [
        {"batch": {"context": 64}, "packing": {"context": 32}},
        {"model": {"waves": 8, "ordinal_basis": {"cosines": 16}}},
    ],
)
def test_a_key_under_both_its_names_is_refused(both: dict[str, object]) -> None:
    with pytest.warns(FutureWarning), pytest.raises(UsageError, match="old name"):
        load_recipe(MINIMAL | both)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model.ngram_prior.dept=2", "depth"),
        ("model.ngram_prior=2", "ngram_prior"),
        ("model.ordinal_basis.cosines=many", "ordinal_basis"),
    ],
)
def test_switches_of_priors_are_checked_as_others(override: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        load_recipe(MINIMAL, [override])


def test_a_table_of_one_key_is_written_without_braces_and_with_its_comment() -> None:
    recipe = {
        "model": {"preset": "nano", "ordinal_basis": {"cosines": 8}},
        "masking": {"spans": {"weight": 1.0, "n": 2}},
    }
    text = recipe_text(recipe, {"model.ordinal_basis.cosines": "few", "masking.spans": "gaps"}, "A title")
    assert tomllib.loads(text) == recipe
    assert [line.partition("  # ")[2] for line in text.splitlines() if "  # " in line] == ["few", "gaps"]
