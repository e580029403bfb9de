"""Every JSON that is written is standard JSON and comes back through its own reader, however awkward its values are."""

import json
import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from untrained import untrained

import maskseq
from maskseq.apps.embed import PARTS, Parts
from maskseq.apps.watch import view
from maskseq.calibration.fit import fit_calibration
from maskseq.calibration.stored import read_calibration, write_calibration
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import MANIFEST, Corpus
from maskseq.infill.journal import Journal
from maskseq.lengths.head import FittedHead, LengthHead, load_length_head, save_length_head
from maskseq.model.checkpoint import check, read_json, read_model, write_json
from maskseq.predict.calibrated import Calibration, CalibrationGroup
from maskseq.predict.posterior import LEVELS
from maskseq.predict.protocol import Fill
from maskseq.recipe import load_recipe
from maskseq.reports.evaluation import evaluation_writer
from maskseq.reports.run import CHARTS, _chart
from maskseq.storage.outputs import claimed
from maskseq.storage.run_folder import CALIBRATION, DIGESTS, LAYOUT, METRICS, RECIPE, STATE, RunFolder
from maskseq.storage.standard_json import to_json
from maskseq.storage.tabular import table_writer
from maskseq.tokenizer import Tokenizer
from maskseq.training.claim import claim
from maskseq.training.events import CellScore, Scores, Step, Validation
from maskseq.training.metrics import Watched
from maskseq.training.metrics_writer import MetricsWriter
from maskseq.training.state import Position, Saved, read_saved
from maskseq.types import Encoded, Field, ListRecord

AWKWARD = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308)


def standard(text: str | bytes) -> Any:
    """Read as the standard has it: the literals that only Python knows are refused."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


def folder_is_standard(folder: Path) -> int:
    """Every JSON file below a folder; how many there are."""
    found = [path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl")]
    for path in found:
        for part in path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]:
            standard(part)
    return len(found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(value: Any, read: Any, *, lossless: bool) -> bool:
    if isinstance(value, dict):
        return value.keys() == read.keys() and all(same(value[k], read[k], lossless=lossless) for k in value)
    if isinstance(value, list):
        return len(value) == len(read) and all(same(a, b, lossless=lossless) for a, b in zip(value, read, strict=True))
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(read)) == repr(value) if lossless else read is None
    return type(value) is type(read) and value == read


@given(VALUES, st.booleans(), st.booleans())
def test_any_value_is_standard_json_and_comes_back(value: Any, lossless: bool, ascii: bool) -> None:
    text = to_json(value, lossless=lossless, ascii=ascii)
    assert same(value, standard(text.encode()), lossless=lossless)


def test_numbers_of_numpy_and_what_json_has_no_word_for() -> None:
    given = {"a": np.float32(0.5), "b": np.array([1, 2]), "c": np.float64("nan"), "d": np.int8(3), "p": Path("x/y")}
    assert standard(to_json(given)) == {"a": 0.5, "b": [1, 2], "c": None, "d": 3, "p": "x/y"}


def test_nothing_else_writes_json() -> None:
    """But for what is hashed or validated and not kept, and TOML, whose strings are those of JSON."""
    others = {
        "tokenizer.py",
        "identity.py",
        "recipe.py",
        "toml_file.py",
        "init_readings.py",
        "toml_text.py",
        "standard_json.py",
    }
    package = Path(maskseq.__file__).parent
    writers = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name not in others and re.search(r"json\.dumps?\(|\.dump_json\(|JSONEncoder", path.read_text())
    ]
    assert writers == []


@dataclass(frozen=True, kw_only=True)
class Odd(Tokenizer[ListRecord]):
    """A plug-in whose state holds whatever floats and letters there are."""

    numbers_: tuple[float, ...] = AWKWARD
    words: tuple[str, ...] = ("é", "日本", "\u202e", "a\nb", '"')

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="größe", tokens=self.words, unit="µV"),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> list[Any]:
        return ids.tolist()


def odd_records(n: int = 20) -> list[ListRecord]:
    return [ListRecord(key=f"ключ {i}\n\"'", values=[(i + k) % 5 for k in range(30)]) for i in range(n)]


def test_checkpoints_with_any_tokenizer(tmp_path: Path) -> None:
    untrained(Odd(), tmp_path)
    (tmp_path / "größe\n.txt").write_text("a file of the trainer, whose name is in the digests")
    maskseq.model.checkpoint.seal(tmp_path)
    check(tmp_path)
    assert set(standard((tmp_path / DIGESTS).read_bytes())) > {"größe\n.txt"}
    _, tokenizer = read_model(tmp_path, trust_code=True)
    assert repr(tokenizer.numbers_) == repr(AWKWARD)  # type: ignore[attr-defined]
    assert tokenizer.fingerprint == Odd().fingerprint
    assert folder_is_standard(tmp_path) == 3


def test_corpora_of_any_tokenizer_and_keys(tmp_path: Path) -> None:
    build_from_records(odd_records(), output=tmp_path / "c", tokenizer=Odd())
    corpus = Corpus.open(tmp_path / "c", trust_code=True)
    assert corpus.tokenizer.fingerprint == Odd().fingerprint
    assert {corpus.key(i) for i in corpus.sequences("train")} <= {record.key for record in odd_records()}
    assert not corpus.verify()
    standard((tmp_path / "c" / MANIFEST).read_bytes())
    assert folder_is_standard(tmp_path / "c") > 1


def test_recipes_with_any_number(tmp_path: Path) -> None:
    identity = {"recipe": {"data": {"files": ("über.fa",)}, "numbers": list(AWKWARD)}, "corpus": "x"}
    claim(RunFolder(tmp_path), identity)
    claim(RunFolder(tmp_path), identity)  # the same run again
    standard((tmp_path / RECIPE).read_bytes())
    assert read_json(tmp_path / RECIPE)["recipe"]["data"]["files"] == ["über.fa"]
    recipe = load_recipe({"data": {}, "training": {"tokens": 1000}, "tokenizer": {"scale": math.inf, "name": "é"}})
    (tmp_path / "b").mkdir()
    claim(RunFolder(tmp_path / "b"), recipe.identity())
    with pytest.warns(FutureWarning, match="selection"):  # an identity has the names that it had
        assert load_recipe(read_json(tmp_path / "b" / RECIPE)["recipe"]).training == recipe.training


def score(loss: float) -> CellScore:
    return CellScore(loss=loss, accuracy=0.5, cells=3)


def step(number: int, value: float) -> Step:
    scores = Scores(all=score(value), by_objective={"é": score(value)}, by_ratio={}, by_field={"größe": score(value)})
    return Step(
        step=number, tokens=100 * number, total_tokens=400, row=number, scores=scores, lr=value, grad_norm=value,
        update_ratio=value, rows=1, tokens_per_s=10.0, wait_share=value, peak_share=value, seconds=1.0, peak_memory=1,
    )  # fmt: skip


def test_metrics_of_a_run_that_went_wrong(tmp_path: Path) -> None:
    metrics = MetricsWriter(RunFolder(tmp_path), step=0)
    for number, value in enumerate((1.0, *AWKWARD[:3]), start=1):
        metrics.write(step(number, value))
        metrics.write(Validation(step=number, tokens=100 * number, scores=step(number, value).scores, seconds=1.0))
    metrics.close()
    for line in (tmp_path / METRICS).read_bytes().splitlines():
        standard(line)
    watched = Watched(tmp_path).update()
    assert watched.curves["loss"][0] == 1.0
    assert np.isnan(watched.curves["loss"][1:]).all()
    assert len(watched.validations) == 4
    assert all(_chart(watched, name, *titles) for name, titles in CHARTS.items())
    shown = Console(record=True, width=120)
    shown.print(view([watched]))
    standard(to_json(watched.summary()))


def test_evaluations(tmp_path: Path) -> None:
    with evaluation_writer(tmp_path) as write:
        write({"protocols": {}, "of": {"run": "größe"}, "asked": {"numbers": AWKWARD}, "infill": {}})
    read = standard((tmp_path / "evaluation.json").read_bytes())
    assert read["of"]["run"] == "größe"
    assert read["asked"]["numbers"][:3] == [None, None, None]


def test_training_states(tmp_path: Path) -> None:
    saved = Saved(position=Position(step=3, row=2**53), precision="bf16", optimizer="é", keep=True)
    (tmp_path / STATE).mkdir()
    write_json(tmp_path / STATE / LAYOUT, asdict(saved) | {"tensors": {}})
    assert read_saved(tmp_path) == saved


def test_journals(tmp_path: Path) -> None:
    identity = {"config": {"temperature": math.inf, "é": [math.nan]}}
    Journal(tmp_path / "j", identity)
    (tmp_path / "j" / "done.npz").write_bytes(b"")
    Journal(tmp_path / "j", identity)
    assert (tmp_path / "j" / "done.npz").exists()
    Journal(tmp_path / "j", {"config": {"temperature": -math.inf, "é": [math.nan]}})
    assert not (tmp_path / "j" / "done.npz").exists()
    assert folder_is_standard(tmp_path) == 1


def test_length_heads(tmp_path: Path) -> None:
    run = untrained(Odd(), tmp_path)
    head = LengthHead(64, 3, seed=0)
    save_length_head(run.checkpoint, FittedHead(head=head, accuracy=math.nan, nats=math.inf))
    assert load_length_head(run.checkpoint).most == 3


def test_embeddings_in_progress(tmp_path: Path) -> None:
    about = {"hidden_size": 4, "file": "größe.fa", "x": [*AWKWARD]}
    with claimed(tmp_path / "vectors.npz", new=True, state=PARTS) as work:
        folder = Parts(work, about).folder
        (folder / "000000.json").write_bytes(
            maskseq.storage.folder.to_json({"keys": [each.key for each in odd_records()], "counts": [1] * 20})
        )
        assert list(Parts(work, about).keys()) == [each.key for each in odd_records()]
        assert folder_is_standard(folder) == 2


def test_tables_as_json_lines(tmp_path: Path) -> None:
    rows = [{"key": "é\ud800", "x": value} for value in AWKWARD]
    with table_writer(tmp_path / "t.jsonl", {"key": str, "x": float}) as sink:
        sink(rows)
    read = [standard(line) for line in (tmp_path / "t.jsonl").read_bytes().splitlines()]
    assert [row["x"] for row in read] == [None, None, None, *AWKWARD[3:]]
    assert read[0]["key"] == rows[0]["key"]


# ---- calibrations -------------------------------------------------------------------------------------------------


def fills(marginals: np.ndarray, truth: np.ndarray) -> list[tuple[Fill, np.ndarray]]:
    """Two records that are filled alike, so that each half of the cells has some."""
    n = len(truth)
    cells = np.stack([2 * np.arange(n), np.zeros(n, int)], axis=1)
    ids = np.full((2 * n, 1), marginals.shape[1])
    ids[::2, 0] = truth
    chosen = marginals.argmax(axis=1)
    zeros = np.zeros((1, n))
    fill = Fill(
        cells=cells, values=chosen[None], probabilities=marginals[None], log_prob=np.log(marginals.max(axis=1))[None],
        legal_mass=zeros, other_mass=zeros, marginals=marginals, step=zeros.astype(int), n_passes=np.array([1]),
    )  # fmt: skip
    return [(fill, ids), (fill, ids)]


ABSENT_ONLY = np.full(300, 3)
"""The truth is never a number: three bins stand before the control."""


@pytest.mark.parametrize(
    ("marginals", "truth"),
    [
        (np.tile([0.1, 0.1, 0.1, 0.7], (300, 1)), ABSENT_ONLY),
        (np.tile([0.0, 0.0, 0.0, 1.0], (300, 1)), np.arange(300) % 4),
        (np.tile([1e-30, 1e-30, 1e-30, 1.0], (300, 1)), np.arange(300) % 2 * 3),
        (np.tile([0.0, 0.0, 0.0, 1.0], (300, 1)), ABSENT_ONLY),
        (np.tile([1.0, 0.0, 0.0, 0.0], (300, 1)), np.zeros(300, int)),
        (np.tile([0.4, 0.3, 0.2, 0.1], (1, 1)), np.zeros(1, int)),
        (np.tile([0.4, 0.3, 0.2, 0.1], (70, 1)), np.where(np.arange(70) < 2, 0, 3)),
    ],
    ids=["no number", "no bin possible", "hardly", "one class", "one bin", "one cell", "numbers in one half"],
)
@pytest.mark.filterwarnings("error")
def test_a_calibration_of_any_cells_can_be_read_again(marginals: np.ndarray, truth: np.ndarray, tmp_path: Path) -> None:
    untrained(Odd(), tmp_path)
    fitted = fit_calibration(fills(marginals.astype(np.float32), truth), centres=[(0.0, 1.0, 2.0)])
    write_calibration(tmp_path, fitted, order="é", symmetries=True, data="größe\n")
    read = read_calibration(tmp_path)
    assert read is not None
    assert read.calibration == fitted
    standard((tmp_path / CALIBRATION).read_bytes())
    for group in fitted.groups:
        numbers = [*np.ravel(group.tails or ()), *(group.coverage_before or ()), *(group.coverage_after or ())]
        assert np.isfinite([group.ece_before, group.ece_after, *numbers]).all()


def test_even_one_without_numbers_can_be_read_again(tmp_path: Path) -> None:
    untrained(Odd(), tmp_path)
    group = CalibrationGroup(
        field=0, span=1, temperature=1.0, marginal_temperature=1.0, n_cells=0, ece_before=math.nan, ece_after=math.inf,
        coverage_before=(math.nan,) * len(LEVELS),
    )  # fmt: skip
    write_calibration(tmp_path, Calibration(groups=(group,)), order="o", symmetries=True, data="d")
    read = read_calibration(tmp_path)
    assert read is not None
    assert repr(read.calibration.groups[0]) == repr(group)
    assert replace(read, order="p") != read
