"""Cases that overlap a boundary in time are asked about behind it; what was before it is context, never scored.

What is right is worked out here from the rows of the raw file alone.
"""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Text

from maskseq.apps.evaluate import evaluate_baselines
from maskseq.apps.judging import held_out_rows
from maskseq.apps.prepare import prepare_corpus
from maskseq.apps.rows import rows_of
from maskseq.comparison.question import Question
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus, Split
from maskseq.corpus.splits import SplitConfig, training_records
from maskseq.errors import DataError, PluginError
from maskseq.evaluation.holdout import held_out_fills, mask_spans
from maskseq.infill.sampler import InfillConfig
from maskseq.masking.config import MaskingConfig
from maskseq.predict.protocol import of_ids
from maskseq.recipe import load_recipe
from maskseq.types import Encoded, Record

PARTS: tuple[Split, ...] = ("train", "selection", "test")


def moment(minutes: int) -> np.datetime64:
    return np.datetime64("2024-01-01T00:00:00") + np.timedelta64(minutes, "m")


def log(path: Path, *, seed: int = 0, n: int = 60) -> Path:
    """Every activity occurs once, so that a value tells which event it is."""
    rng, rows, number = np.random.default_rng(seed), ["case,amount,activity,time"], 0
    for case in range(n):
        times = int(rng.integers(3000)) + np.cumsum(rng.integers(0, 200, size=rng.integers(1, 9)))
        for time in times.tolist():
            rows.append(f"c{case},{case},e{number:03d},{str(moment(time)).replace('T', ' ')}")
            number += 1
    path.write_text("\n".join(rows) + "\n")
    return path


def recipe(path: Path, split: str, **tokenizer: Any) -> Any:
    options = {"name": "event", "min_count": 1, **tokenizer}
    return load_recipe(
        {
            "data": {"files": [str(path)], "format": "event-csv", "split": json.loads(split)},
            "tokenizer": {**options},
            "model": {"preset": "nano", "n_layers": 1},
            "packing": {"row_tokens": 256, "context": 64},
            "training": {"tokens": 300},
        }
    )


def by_hand(path: Path, shares: dict[str, float]) -> tuple[dict[str, dict[str, list[bool]]], dict[str, float]]:
    """Of each part, its cases, and of each event whether it lies behind the beginning of the part."""
    cases: dict[str, list[float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            cases.setdefault(row["case"], []).append(np.datetime64(row["time"]).astype("datetime64[s]").astype(float))
    starts = sorted(times[0] for times in cases.values())
    boundaries, last = {"train": -np.inf}, 0
    for part in ("test", "selection"):
        if part in shares:
            last += max(round(shares[part] * len(cases)), 1)
            boundaries[part] = starts[-last]
    parts: dict[str, dict[str, list[bool]]] = {part: {} for part in PARTS}
    for key, times in cases.items():
        part = max((p for p in boundaries if times[-1] >= boundaries[p]), key=lambda p: boundaries[p])
        parts[part][key] = [time >= boundaries[part] for time in times]
    return parts, boundaries


@pytest.mark.parametrize("shares", [{"selection": 0.2}, {"selection": 0.15, "test": 0.2}])
@pytest.mark.parametrize("end", [True, False])
def test_what_is_behind_the_boundary_is_asked_about_and_nothing_else(
    tmp_path: Path, shares: dict[str, float], end: bool
) -> None:
    path = log(tmp_path / "log.csv")
    config = recipe(path, json.dumps({"by": "time", "duplicates": "ignore", **shares}), end=end)
    corpus = prepare_corpus(config, default=tmp_path / "c")
    expected, _ = by_hand(path, shares)
    assert any(not all(behind) for part in expected.values() for behind in part.values())
    for name in PARTS:
        found = {}
        for sequence, encoded in corpus.each(name):
            weights = np.ones(encoded.ids.shape) if encoded.weights is None else encoded.weights
            assert (weights == weights[:, :1]).all()
            found[corpus.key(sequence)] = weights[:, 0].tolist()
            again = corpus.read(sequence)
            np.testing.assert_array_equal(again.ids, encoded.ids)
            np.testing.assert_array_equal(np.ones(again.ids.shape) if again.weights is None else again.weights, weights)
        assert found == {key: [float(each) for each in behind] + [1.0] * end for key, behind in expected[name].items()}
    assert not corpus.verify()
    fitted = [record.key for record in training_records(lambda: config.reader(path).read(path), config.data.split)]
    assert set(fitted) == set(expected["train"])


def test_nothing_that_trains_is_scored_elsewhere(tmp_path: Path) -> None:
    """Seen from the rows of batches and from the questions of an evaluation."""
    path = log(tmp_path / "log.csv")
    shares = {"selection": 0.2, "test": 0.2}
    config = recipe(path, json.dumps({"by": "time", "duplicates": "ignore", **shares}))
    corpus = prepare_corpus(config, default=tmp_path / "c")
    expected, _ = by_hand(path, shares)
    training, selection = rows_of(config, corpus)
    test = held_out_rows(config, corpus, "test")
    for name, rows in (("train", training), ("selection", selection), ("test", test)):
        assert rows is not None
        for number in range(rows.n_rows(0)):
            row = rows.row(number)
            for segment, sequence in enumerate(row.sequence.tolist()):
                begin, stop = row.cu_seqlens[segment : segment + 2].tolist()
                if sequence >= 0:
                    behind = [*expected[name][corpus.key(sequence)], True]
                    scored = (row.weights[begin:stop] > 0).any(axis=1)
                    assert not (scored & ~np.array(behind)).any()
                    masked = (row.inputs[begin:stop] != row.targets[begin:stop]).any()
                    assert scored.any() or not masked
    reported = evaluate_baselines(
        corpus.path, question=Question(protocols=("event", "masked"), cells=10**6, every=True)
    )
    n_behind = sum(map(sum, expected["test"].values()))
    assert reported.protocols["event"].examples == n_behind  # one for each event behind the boundary, and no other


@dataclass(frozen=True, kw_only=True)
class Timed(Text):
    """Letters that each have a time; None: nobody knows."""

    times: tuple[float, ...] | None = None

    def span(self) -> tuple[float, float]:
        known = [time for time in self.times or () if not np.isnan(time)]
        return (min(known), max(known)) if known else (self.begin or 0.0, (self.begin or 0.0) + len(self))

    def moments(self) -> np.ndarray | None:
        return None if self.times is None else np.array(self.times)


times_of = st.lists(st.one_of(st.integers(0, 60).map(float), st.just(float("nan"))), min_size=1, max_size=12)
records_of = st.lists(
    st.tuples(st.one_of(st.none(), times_of), st.integers(0, 60), st.integers(1, 12)), min_size=4, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(records_of, st.sampled_from([0.0, 0.2]), st.booleans())
def test_laws_of_times_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Any], test: float, weighted: bool
) -> None:
    """No unit that is known to be before the boundary of its part is asked about; what trains lies before all."""
    rng, records = np.random.default_rng(len(drawn)), []
    for number, (times, begin, n) in enumerate(drawn):
        times = None if times is None or np.isnan(times).all() else tuple(times)
        length = n if times is None else len(times)
        text = "".join(rng.choice(list("abcd"), size=length))
        records.append(Timed(key=f"r{number}", text=text, begin=float(begin), times=times))
    config = SplitConfig(by="time", selection=0.2, test=test, duplicates="ignore")
    folder = tmp_path_factory.mktemp("corpus")
    tokenizer = Letters(weighted=weighted)
    try:
        build_from_records(records, output=folder / "c", tokenizer=tokenizer, split=config, part_units=40)
    except Exception as error:
        assert "nothing is left to train on" in str(error)  # noqa: PT017
        return
    corpus = Corpus.open(folder / "c", trust_code=True)
    split, by_key = corpus.manifest["split"], {record.key: record for record in records}
    at = {
        name: np.datetime64(split[name][:19]).astype(float) for name in ("boundary", "test_boundary") if name in split
    }
    boundaries = {"train": -np.inf, "selection": at["boundary"], "test": at.get("test_boundary", np.inf)}
    first = at["boundary"]
    placed = set()
    for name in PARTS:
        for sequence, encoded in corpus.each(name):
            record = by_key[corpus.key(sequence)]
            placed.add(record.key)
            own = tokenizer.encode(record).weights
            own = np.ones(encoded.ids.shape) if own is None else own
            weights = np.ones(encoded.ids.shape) if encoded.weights is None else encoded.weights
            requested = (weights > 0).all(axis=1)
            np.testing.assert_array_equal(weights[requested], own[requested])
            assert requested.any()
            assert requested.tolist() == sorted(requested.tolist())  # context comes first
            times = np.full(len(record), np.nan) if record.times is None else np.array(record.times)
            assert not (times[requested] < boundaries[name]).any()
            if name == "train":
                assert requested.all()
                assert record.span()[1] < first
            if record.times is None and name != "train":
                assert record.span()[0] >= boundaries[name]
    for record in records:
        if record.span()[1] < first:
            assert record.key in placed


def test_times_for_another_number_of_units_are_the_plugins_fault(tmp_path: Path) -> None:
    records = [Timed(key=f"r{i}", text="abcd", begin=float(i), times=(1.0, 2.0)) for i in range(20)]
    with pytest.raises(PluginError, match="moments"):
        build_from_records(records, output=tmp_path / "c", tokenizer=Letters(), split=SplitConfig(by="time"))


def test_corpora_of_before_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path / "log.csv")
    split = {"by": "time", "selection": 0.2}
    config = recipe(path, json.dumps(split))
    with monkeypatch.context() as patch:
        patch.setattr(SplitConfig, "by_time", False)
        old = prepare_corpus(config, default=tmp_path / "c")
    assert old.manifest["split"]["left_out"]["overlapping_the_boundary"] > 0
    again = prepare_corpus(config, default=tmp_path / "c")
    assert again.fingerprint == old.fingerprint
    assert again.manifest == old.manifest
    new = prepare_corpus(config, default=tmp_path / "new")
    assert new.fingerprint != old.fingerprint
    assert new.manifest["split"]["left_out"]["overlapping_the_boundary"] == 0
    for by in ("record", "start"):  # another split of the same parts, either way; no new tokens
        other = recipe(path, json.dumps({**split, "by": by}))
        parts = new.manifest["parts_folder"]
        again = prepare_corpus(other, default=tmp_path / "new", tokenizer=new.tokenizer)
        assert again.manifest["parts_folder"] == parts
        assert not again.table.context.any()
        assert prepare_corpus(config, default=tmp_path / "new").fingerprint == new.fingerprint


def test_a_lying_table_of_context_is_refused(tmp_path: Path) -> None:
    from maskseq.storage.folder import digest, to_json

    corpus = prepare_corpus(recipe(log(tmp_path / "log.csv"), '{"by": "time"}'), default=tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    manifest["sequences"]["context"] = 0
    del manifest["digest"]
    (tmp_path / "c" / "manifest.json").write_bytes(to_json(manifest | {"digest": digest(to_json(manifest))}))
    with pytest.raises(DataError, match="table of"):
        Corpus.open(tmp_path / "c").table  # noqa: B018
    assert corpus.table.context.any()


def test_hidden_context_is_not_judged() -> None:
    """Cells of weight 0 are hidden where they would give others away, and never asked about."""
    from maskseq_events.case import Case
    from maskseq_events.tokenizer import EventTokenizer

    rng = np.random.default_rng(0)
    cases = [
        Case(
            key=str(i),
            activity=tuple(rng.choice(list("abc"), size=30)),
            time=np.cumsum(rng.integers(1, 10**9, size=30)),
            offset=np.zeros(30, np.int32),
        )
        for i in range(30)
    ]
    tokenizer = EventTokenizer.fit(cases)
    records: list[tuple[str, Encoded]] = []
    for case in cases:
        encoded = tokenizer.encode(case)
        weights = np.ones(encoded.ids.shape, np.float32)
        weights[:15] = 0
        records.append((case.key, Encoded(encoded.ids, weights=weights)))
    alone = mask_spans(records[0][1], tokenizer, np.random.default_rng(0), lengths=(1, 2), share=0.5)
    units = tokenizer.units_of(records[0][1])
    requested = alone & (records[0][1].weights > 0)
    assert requested.any()
    for field in range(1, len(tokenizer.fields)):  # all of the source "time"
        for position in np.flatnonzero(requested[:, field]).tolist():
            shares = (units[:, 1:, 0] < units[position, field, 1]) & (units[:, 1:, 1] > units[position, field, 0])
            whole = units[position, field, 1] - units[position, field, 0] == 1
            assert alone[:, 1:][shares].all() or not whole
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    @of_ids
    def predict(sequences: Any, cells: Any) -> list[np.ndarray]:
        seen.extend(zip(sequences, cells, strict=True))
        n = max(tokenizer.vocabulary.n_outputs)
        return [np.full((len(each), n), -np.log(n)) for each in cells]

    fills = held_out_fills(predict, records, InfillConfig(), tokenizer=tokenizer, context=64, share=0.5)
    for fill, _ in fills:
        assert (fill.cells[:, 0] >= 15).all()
    assert all((cells[:, 0] >= 15).all() for _, cells in seen)
    masks = np.asarray(tokenizer.vocabulary.mask_ids)
    assert any((ids[14, 1:] == masks[1:]).any() for ids, _ in seen)  # a time before, hidden with the gap behind it


def test_signals_have_moments() -> None:
    from maskseq_signals.recording import Recording

    times = ("2024-01-01 00:00:00", "", "2024-01-01 00:00:02.5")
    record = Recording(key="x", channels=np.zeros((3, 1)), names=("a",), times=times)
    base = np.datetime64("2024-01-01").astype("datetime64[s]").astype(float)
    np.testing.assert_array_equal(record.moments(), [base, np.nan, base + 2.5])
    for others in (("1", "2", "3"), None):
        assert Recording(key="x", channels=np.zeros((3, 1)), names=("a",), times=others).moments() is None
    assert Record(key="x").moments() is None
    assert MaskingConfig()  # a piece of context alone hides nothing: see the rows above
