"""What is saved comes back bit for bit, and whatever is damaged is named and never loaded."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import load_model

from maskseq.errors import DataError, UsageError
from maskseq.model.checkpoint import check, newest_checkpoint, save_model, seal
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.model.priors.config import NgramEmbeddingsConfig, NgramPriorConfig, PhaseEmbeddingsConfig
from maskseq.storage.run_folder import DIGESTS
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord


@dataclass(frozen=True, kw_only=True)
class Weather(Tokenizer[ListRecord]):
    """A tokenizer of the tests' own, which a folder may not load without being trusted."""

    station: str = "here"

    fields = (
        Field(name="sky", tokens=("sun", "cloud", "rain"), controls=("[OTHER]",)),
        Field(name="warmth", tokens=("cold", "mild", "hot"), centres=(-1.5, 0.1, 20.0)),
    )

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.zeros((len(record), 2), dtype=np.uint8))

    def decode(self, ids: np.ndarray) -> list[str]:
        return [self.fields[0].token(i) for i in ids[:, 0]]


TOKENIZER = Weather()


def small_model(seed: int = 0, **switches: object) -> Encoder:
    switches = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48} | switches
    return Encoder(preset("nano", TOKENIZER.vocabulary, **switches), seed=seed)


def run_folder(root: Path, steps: list[int]) -> Path:
    for step in steps:
        folder = root / "checkpoints" / f"step_{step}"
        save_model(folder, small_model(step), TOKENIZER)
    (root / "latest").write_text(f"step_{steps[-1]}")
    return root


def load(folder: Path) -> tuple[Encoder, list[str]]:
    warnings: list[str] = []
    model, tokenizer = load_model(folder, trust_code=True, warn=warnings.append)
    assert tokenizer == TOKENIZER
    return model, warnings


def same(one: Encoder, other: Encoder) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return one.config == other.config and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


SWITCHES = [
    {},
    {"tied": False, "head": "none", "norm": "rmsnorm", "rope_style": "interleaved", "rope_theta": 160_000.0},
    {"placement": "post", "norm_bias": True, "positions": "learned", "token_types": 2, "mlp": "gelu", "mlp_bias": True},
    {"global_every": 3, "window": 7, "rope_theta_local": 1e-3, "init_std": 0.1 + 0.2},
    {
        "ngram_embeddings": NgramEmbeddingsConfig(contexts=((2, 0), (1, 1))),
        "ngram_prior": NgramPriorConfig(depth=1),
        "phase_embeddings": PhaseEmbeddingsConfig(periods=(3,)),
    },
]


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, switches: dict[str, object]) -> None:
    model = small_model(**switches)
    save_model(tmp_path / "model", model, TOKENIZER)
    assert same(load(tmp_path / "model")[0], model)


def test_a_model_whose_switches_have_older_names_comes_back(tmp_path: Path) -> None:
    model = small_model(**SWITCHES[-1])
    save_model(tmp_path, model, TOKENIZER)
    config = json.loads((tmp_path / "config.json").read_text())
    switches = config["encoder"]
    older = {"neighbours": "ngram_embeddings.contexts", "context_table": "ngram_prior.depth"} | {
        "periods": "phase_embeddings.periods",
        "waves": "ordinal_basis.cosines",
        "linear_context": "linear_prior.distances",
    }
    for old, new in older.items():
        prior, key = new.split(".")
        switches[old] = switches.pop(prior)[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / DIGESTS).unlink()
    seal(tmp_path)
    assert same(load(tmp_path)[0], model)


def test_only_safetensors_and_json_are_written_and_tied_weights_once(tmp_path: Path) -> None:
    model = small_model()
    save_model(tmp_path, model, TOKENIZER)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "config.json", "tokenizer.json", DIGESTS}
    header = 8 + int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert (tmp_path / "model.safetensors").stat().st_size - header == 4 * model.n_parameters


def test_loading_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(), TOKENIZER)
    state = torch.random.get_rng_state()
    load(tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_folder_loads_foreign_code_only_when_trusted(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(), TOKENIZER)
    with pytest.raises(UsageError, match="--trust-code"):
        load_model(tmp_path)


# Damage


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", DIGESTS, "extra/rank_0.bin"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut short", "one bit"])
def test_every_damage_to_every_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "rank_0.bin").write_bytes(bytes(range(256)))
    save_model(tmp_path, small_model(), TOKENIZER)
    check(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: 0 if damage == "emptied" else len(content) // 2])
    with pytest.raises(DataError) as error:
        load_model(tmp_path, trust_code=True)
    # A flipped bit in the digests themselves may turn one file's digest or name: then that file is named.
    assert name in str(error.value) or (name == DIGESTS and damage == "one bit")


def test_an_interrupted_write_is_no_checkpoint(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(), TOKENIZER)
    (tmp_path / DIGESTS).unlink()
    with pytest.raises(DataError, match="digests"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="there is no such checkpoint folder"):
        load_model(tmp_path / "nowhere")


def resealed(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["encoder"].update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)


def test_config_tensors_and_tokenizer_must_belong_together(tmp_path: Path) -> None:
    save_model(tmp_path / "a", small_model(), TOKENIZER)
    cases = [
        ({"n_layers": 3}, r"model\.safetensors.*lacks layers\.2"),
        ({"n_layers": 1}, r"model\.safetensors.*unexpected layers\.1"),
        (
            {"intermediate_size": 40},
            r"tensor layers\.0\.mlp.*\(96, 32\) but config\.json says \(80",
        ),
        ({"n_heads": 3}, r"config\.json: encoder: .*not a multiple of n_heads 3"),
        ({"n_heads": "many"}, r"config\.json: encoder\.n_heads"),
        ({"n_noses": 1}, r"config\.json: encoder\.n_noses"),
    ]
    for changes, message in cases:
        shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
        resealed(tmp_path / "b", **changes)
        with pytest.raises(DataError, match=message):
            load(tmp_path / "b")

    save_model(tmp_path / "c", small_model(), Weather(station="there"))
    shutil.copy(tmp_path / "c" / "tokenizer.json", tmp_path / "a" / "tokenizer.json")
    seal(tmp_path / "a")
    with pytest.raises(DataError, match=r"tokenizer\.json: is not the tokenizer that config\.json names"):
        load(tmp_path / "a")


def test_a_model_is_not_saved_with_a_tokenizer_of_other_fields(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Moon(Weather):
        fields = (Field(name="moon", tokens=("new", "full")),)

    with pytest.raises(
        UsageError, match=r"fields sky \(5 ids\), warmth \(4 ids\), but tokenizer Moon has moon \(3 ids\)"
    ):
        save_model(tmp_path, small_model(), Moon())


# Run folders


def test_a_run_folder_gives_what_latest_names(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [100, 900, 1000])
    model, warnings = load(run)
    assert same(model, small_model(1000))
    assert not warnings
    (run / "latest").write_text("step_900\n")  # gone back by hand
    model, warnings = load(run)
    assert same(model, small_model(900))
    assert not warnings


def test_the_checkpoint_before_a_damaged_one_is_used_and_the_user_is_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [100, 900, 1000])
    damaged = run / "checkpoints" / "step_1000" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:500])
    model, warnings = load(run)
    assert same(model, small_model(900))
    assert len(warnings) == 1
    assert str(damaged) in warnings[0]
    assert "Going back to step_900" in warnings[0]


def test_an_unfinished_step_folder_is_never_looked_at(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [100])
    (run / "checkpoints" / "step_200.tmp").mkdir()
    assert newest_checkpoint(run, pytest.fail).name == "step_100"


@pytest.mark.parametrize("content", [None, b"", b"step_7", b"\xff\xfe\x00"])
def test_a_lost_latest_costs_a_warning(tmp_path: Path, content: bytes | None) -> None:
    run = run_folder(tmp_path, [100, 900])
    (run / "latest").unlink()
    if content is not None:
        (run / "latest").write_bytes(content)
    model, warnings = load(run)
    assert same(model, small_model(900))
    assert len(warnings) == 1
    assert "does not name a checkpoint" in warnings[0]


def test_a_run_without_any_sound_checkpoint_says_what_is_wrong_with_each(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [100, 900])
    for step in (100, 900):
        (run / "checkpoints" / f"step_{step}" / "config.json").unlink()
    with pytest.raises(DataError, match=r"no sound checkpoint.*step_900.*is missing.*step_100.*is missing"):
        load(run)
