"""Reading the files of a build: once where that is enough, and behind what is broken where that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from maskseq.apps.inspect import inspect
from maskseq.apps.prepare import prepare_corpus
from maskseq.corpus import source as source_module
from maskseq.corpus.source import Source
from maskseq.errors import DataError, DataWarning
from maskseq.recipe import load_recipe
from maskseq_events.delimited import Csv
from maskseq_events.xes import Xes
from maskseq_genomics.fasta import Fasta

LOG = "case,activity,time\n" + "".join(
    f"{case},{activity},2024-03-0{day}T0{hour}:00:00\n"
    for hour, case in enumerate("abcd")
    for day, activity in enumerate(("come", "work", "leave"), 1)
)
EVENT = {"name": "event", "min_count": 1}
NO_SPLIT = {"by": "none"}


class Counting(Csv):
    """Counts how often files are opened."""

    opened = 0

    def _open(self, path):
        Counting.opened += 1
        return super()._open(path)


def test_a_small_file_is_parsed_once_however_often_it_is_gone_through(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    source = Source([path], Counting())
    Counting.opened = 0
    first, second = list(source), list(source)
    assert (Counting.opened, len(first)) == (1, 4)
    assert first == second == [case.bare() for case in Csv().read(path)]
    monkeypatch.setattr(source_module, "KEPT_UNITS", 11)  # one event fewer than there are
    source = Source([path], Counting())
    assert list(source) == list(source) == first
    assert Counting.opened == 3


def test_a_reading_that_was_left_off_is_not_taken_for_the_whole(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    source = Source([path], Csv())
    next(iter(source))
    assert len(list(source)) == 4


def test_a_build_with_fitting_parses_its_files_once_and_makes_the_same_corpus(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    data = {"files": [str(path)], "split": {"by": "record", "selection": 0.3}}
    recipe = load_recipe({"data": data, "tokenizer": EVENT})
    monkeypatch.setattr(type(recipe), "reader", lambda self, path: Counting())
    Counting.opened = 0
    once = prepare_corpus(recipe, default=tmp_path / "once")
    assert Counting.opened == 1
    monkeypatch.setattr(source_module, "KEPT_UNITS", 0)
    often = prepare_corpus(recipe, default=tmp_path / "often")
    assert Counting.opened == 1 + 3
    assert once.fingerprint == often.fingerprint


BROKEN = {
    Csv(): ("log.csv", LOG.replace("b,work,2024-03-02", "b,work,2024-13-02"), ["a", "b", "c", "d"], "line 6"),
    Csv(case="case"): ("short.csv", LOG + "e,come\n", ["a", "b", "c", "d"], "line 14"),
    Fasta(): ("x.fa", ">one\nACGT\n>\nAC\n>two\n>four\nGGCC\n", ["one", "two", "four"], "line 3"),
    Xes(): (
        "x.xes",
        "<log>"
        + "".join(
            f'<trace><string key="concept:name" value="{name}"/><event><string key="concept:name" value="x"/>'
            f'<date key="time:timestamp" value="{moment}"/></event></trace>'
            for name, moment in (("a", "2024-03-01T00:00:00Z"), ("b", "soon"), ("c", "2024-03-01T00:00:00Z"))
        )
        + "</log>",
        ["a", "c"],
        "trace 2",
    ),
}


@pytest.mark.parametrize("reader", BROKEN, ids=lambda reader: type(reader).__name__)
def test_reading_goes_on_behind_a_broken_record(reader, tmp_path):
    name, text, keys, place = BROKEN[reader]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=place):
        list(reader.read(path))
    found = list(reader.attempts(path))
    assert [item.key for item in found if not isinstance(item, DataError)] == keys
    assert any(place in str(item) for item in found if isinstance(item, DataError))


def test_skipped_records_are_counted_and_named_in_the_manifest(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG.replace("b,work,2024-03-02", "b,work,2024-13-02"))
    table = {"data": {"files": [str(path)], "on_error": "skip", "split": NO_SPLIT}, "tokenizer": EVENT}
    with pytest.warns(DataWarning, match="1 of 5 records skipped"):
        corpus = prepare_corpus(load_recipe(table), default=tmp_path / "corpus")
    assert [corpus.record_key(i) for i in range(corpus.manifest["records"])] == ["a", "b", "c", "d"]
    assert corpus.manifest["skipped"]["records"] == 1
    assert "line 6" in corpus.manifest["skipped"]["examples"][0]
    table["data"]["on_error"] = "stop"
    with pytest.raises(DataError, match="line 6"):
        prepare_corpus(load_recipe(table), default=tmp_path / "other")
    assert not Path(tmp_path / "other" / "manifest.json").exists()


def test_of_files_with_one_recording_each_the_broken_ones_are_skipped(tmp_path):
    good, bad = tmp_path / "good.npy", tmp_path / "bad.npy"
    np.save(good, np.sin(np.arange(400.0)))
    bad.write_bytes(good.read_bytes()[:900])
    files = [str(good), str(bad), str(tmp_path / "good2.npy")]
    np.save(files[2], np.cos(np.arange(400.0)))
    table = {
        "data": {"files": files, "on_error": "skip", "split": NO_SPLIT},
        "tokenizer": {"name": "quantize", "bins": 8},
    }
    with pytest.warns(DataWarning, match="1 of 3 records skipped"):
        corpus = prepare_corpus(load_recipe(table), default=tmp_path / "corpus")
    assert (corpus.manifest["records"], corpus.manifest["skipped"]["records"]) == (2, 1)
    assert "bad.npy" in corpus.manifest["skipped"]["examples"][0]


def test_what_was_inferred_and_lost_is_reported(tmp_path):
    values = np.round(np.random.default_rng(1).normal(size=3000), 3)
    np.save(tmp_path / "x.npy", values)
    data = {"files": [str(tmp_path / "x.npy")], "format_options": {"names": ["ECG"], "units": ["mV"]}}
    table = {"data": data | {"split": NO_SPLIT}, "tokenizer": {"name": "quantize", "scheme": "uniform", "bins": 32}}
    corpus = prepare_corpus(load_recipe(table), default=tmp_path / "corpus")
    decoded = corpus.tokenizer.decode(np.asarray(corpus.read(0, 0, 3000).ids)).channels[:, 0]
    summary = inspect(tmp_path / "corpus")
    assert summary["fields"]["ECG"].startswith("32 bins, ")
    reported = (
        f"mean {np.abs(decoded - values).mean():.3g}, RMS {np.sqrt(np.mean((decoded - values) ** 2)):.3g}, at most"
    )
    assert summary["rounding"]["ECG"].startswith(reported)
    assert summary["rounding"]["ECG"].endswith("mV; 0 of 3,000 values clipped")
