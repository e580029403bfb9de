"""A corpus holds what the tokenizer made, however it was built; whatever is damaged is reported and never read."""

import hashlib
import json
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import PART_UNITS, Letters, Lines, Text, random_texts, tree

from maskseq.corpus.build import build_corpus, build_from_records, build_share
from maskseq.corpus.reader import Corpus, verify_corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, PluginError, UsageError

TEXTS = random_texts(60, 300)
NO_SPLIT = SplitConfig(by="none")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Lines().write(TEXTS, tmp_path / "letters.txt")
    return tmp_path / "letters.txt"


def build(source: Path, output: Path, **options: Any) -> Corpus:
    given = {"tokenizer": Letters(), "format": Lines(), "part_units": PART_UNITS, **options}
    return build_corpus([source], output=output, **given)


def read_everything(path: Path) -> list[tuple[str, int, bytes]]:
    """Key, start and ids of every sequence, through a freshly opened corpus."""
    corpus = Corpus.open(path, trust_code=True)
    n = len(corpus.lengths)
    return [(corpus.key(i), int(corpus.starts[i]), corpus.read(i).ids.tobytes()) for i in range(n)]


def test_every_record_comes_back_as_the_tokenizer_made_it(tmp_path: Path) -> None:
    tokenizer = Letters(weighted=True)
    corpus = build_from_records(
        TEXTS, output=tmp_path / "c", tokenizer=tokenizer, split=NO_SPLIT, part_units=PART_UNITS
    )
    assert len(corpus.manifest["parts"]) > 3
    assert [corpus.key(i) for i in corpus.sequences("train")] == [text.key for text in TEXTS]
    for index, text in enumerate(TEXTS):
        truth = tokenizer.encode(text)
        read = corpus.read(index)
        np.testing.assert_array_equal(read.ids, truth.ids)
        np.testing.assert_array_equal(read.weights, np.ones((len(text), 2)) if truth.weights is None else truth.weights)
        middle = corpus.read(index, 3, -2)
        np.testing.assert_array_equal(middle.ids, truth.ids[3:-2])
    everything = np.concatenate([tokenizer.encode(text).ids for text in TEXTS])
    for start, stop in ((0, len(everything)), (1790, 2210), (500, 500), (7000, 7001)):
        np.testing.assert_array_equal(corpus.read_span(start, stop).ids, everything[start:stop])
    assert corpus.read_span(0, 1).ids.dtype == np.uint8


def test_long_records_and_damaged_neighbours_do_not_disturb_the_rule_of_parts(tmp_path: Path) -> None:
    texts = [Text(key=str(n), text="ab" * (n // 2)) for n in (500, 600, 400, 5000, 10, 1990, 4)]
    corpus = build_from_records(texts, output=tmp_path / "c", tokenizer=Letters(), part_units=1000, split=NO_SPLIT)
    assert [part["positions"] for part in corpus.manifest["parts"]] == [500, 1000, 5000, 10, 1990, 4]


def test_any_engine_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "serial")
    build(source, tmp_path / "pool", workers=2)
    for share in (2, 1, 3):
        build_share(
            [source], (share, 3), output=tmp_path / "shares", tokenizer=Letters(), format=Lines(), part_units=PART_UNITS
        )
        assert not (tmp_path / "shares" / "manifest.json").exists()
    seen: list[int] = []
    build(source, tmp_path / "shares", progress=lambda units, of: seen.append(units))
    truth = tree(tmp_path / "serial")
    assert len(truth) > 60
    assert tree(tmp_path / "pool") == truth
    assert tree(tmp_path / "shares") == truth
    assert seen == sorted(seen)
    assert seen[-1] == sum(map(len, TEXTS))


def test_a_dask_cluster_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    build(source, tmp_path / "serial")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(lambda: sys.path.insert(0, str(Path(__file__).parent)))
        build(source, tmp_path / "dask", scheduler=cluster.scheduler_address)
    assert tree(tmp_path / "dask") == tree(tmp_path / "serial")


def test_a_scheduler_that_does_not_answer_is_a_usage_error(source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    distributed = pytest.importorskip("distributed")

    def refused(address: str, timeout: str) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", refused)
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:1'"):
        build(source, tmp_path / "c", scheduler="tcp://127.0.0.1:1")


def test_the_manifest_says_where_the_data_come_from_and_nothing_about_the_machine(source: Path, tmp_path: Path) -> None:
    manifest = build(source, tmp_path / "c").manifest
    data = source.read_bytes()
    assert manifest["sources"] == [
        {"name": "letters.txt", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    assert manifest["tokenizer"]["name"] == "corpora:Letters"
    assert manifest["positions"] == manifest["units"] == sum(map(len, TEXTS))
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_bad_record_stops_the_build_by_name_or_is_counted(tmp_path: Path) -> None:
    texts = [Text(key="good", text="abcd" * 9), Text(key="bad", text="abxd"), Text(key="empty", text="")]
    options: dict[str, Any] = {"tokenizer": Letters(), "split": NO_SPLIT}
    with pytest.raises(DataError, match=r"record 'bad': .*'x' is not in list|record 'bad': substring not found"):
        build_from_records(texts[:2], output=tmp_path / "a", **options)
    corpus = build_from_records(texts[::2], output=tmp_path / "c", **options)  # what is empty is not broken
    assert (corpus.manifest["records"], corpus.manifest["skipped"]["records"]) == (1, 1)
    assert corpus.manifest["skipped"]["examples"][0].startswith("empty:")
    corpus = build_from_records(texts, output=tmp_path / "a", on_error="skip", **options)
    assert corpus.manifest["records"] == 1
    assert corpus.manifest["skipped"]["records"] == 2
    assert [text.split(":")[0] for text in corpus.manifest["skipped"]["examples"]] == ["bad", "empty"]
    with pytest.raises(DataError, match="no records that could be tokenized"):
        build_from_records(texts[1:], output=tmp_path / "b", on_error="skip", **options)


def test_a_tokenizer_that_breaks_its_word_is_caught(tmp_path: Path) -> None:
    class Wrong(Letters):
        def encode(self, record: Text) -> Any:
            encoded = super().encode(record)
            encoded.ids[0, 1] = 3  # its second field has rows 0-2
            return encoded

    with pytest.raises(PluginError, match=r"'r0'.* Wrong .*id 3 at position 1\b.*'outer' has the ids 0 to 2"):
        build_from_records(TEXTS, output=tmp_path / "c", tokenizer=Wrong())


def test_a_finished_corpus_is_only_replaced_on_demand(source: Path, tmp_path: Path) -> None:
    first = build(source, tmp_path / "c")
    again = build(source, tmp_path / "c")
    assert again.fingerprint == first.fingerprint
    with pytest.raises(UsageError, match="already holds a corpus of other input"):
        build(source, tmp_path / "c", tokenizer=Letters(weighted=True))
    assert Corpus.open(tmp_path / "c", trust_code=True).fingerprint == first.fingerprint
    resplit = build(source, tmp_path / "c", split=SplitConfig(seed=1))
    assert resplit.fingerprint != first.fingerprint
    assert resplit.manifest["parts"] == first.manifest["parts"]
    replaced = build(source, tmp_path / "c", tokenizer=Letters(weighted=True), overwrite=True)
    fresh = build(source, tmp_path / "fresh", tokenizer=Letters(weighted=True))
    assert replaced.fingerprint == fresh.fingerprint
    assert tree(tmp_path / "c") == tree(tmp_path / "fresh")  # nothing of the old one is left
    build_from_records(TEXTS, output=tmp_path / "c", tokenizer=Letters(), overwrite=True)
    build_from_records(TEXTS[:9], output=tmp_path / "c", tokenizer=Letters(), overwrite=True)
    assert Corpus.open(tmp_path / "c", trust_code=True).manifest["records"] == 9


def test_other_folders_and_missing_files_are_left_alone(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a corpus and not empty"):
        build(source, tmp_path)
    with pytest.raises(DataError, match=r"missing.txt: there is no such file"):
        build(tmp_path / "missing.txt", tmp_path / "c")
    with pytest.raises(DataError, match="not a corpus, or its build did not finish"):
        Corpus.open(tmp_path)


def test_a_class_that_workers_cannot_import_is_a_usage_error(source: Path, tmp_path: Path) -> None:
    class Local(Letters):
        pass

    with pytest.raises(UsageError, match="cannot be sent to worker processes"):
        build(source, tmp_path / "c", tokenizer=Local(), workers=2)


def test_code_named_in_a_corpus_is_not_imported_without_trust(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "c")
    with pytest.raises(UsageError, match="--trust-code"):
        Corpus.open(tmp_path / "c")


class _Ranges(SimpleHTTPRequestHandler):
    """Static files with byte ranges, which Python's own server lacks and every object store has."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path))
        if not data.is_file():
            self.send_error(404)
            return
        content = data.read_bytes()
        first, last = 0, len(content) - 1
        if given := self.headers.get("Range"):
            first_given, last_given = given.removeprefix("bytes=").split("-")
            first = int(first_given) if first_given else len(content) - int(last_given)
            last = min(int(last_given), last) if first_given and last_given else last
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Last-Modified", self.date_time_string(0))
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_corpus_is_read_from_an_object_store(source: Path, tmp_path: Path, served: str, scheme: str) -> None:
    pytest.importorskip("obstore")
    local = build(source, tmp_path / "c")
    url = f"{served}/c" if scheme == "http" else f"file://{tmp_path}/c"
    remote = Corpus.open(url, trust_code=True)
    assert remote.fingerprint == local.fingerprint
    assert [remote.key(i) for i in (0, 59)] == [local.key(i) for i in (0, 59)]
    n = local.manifest["positions"]
    np.testing.assert_array_equal(remote.read_span(0, n).ids, local.read_span(0, n).ids)
    assert verify_corpus(url, trust_code=True) == []
    shard = min((tmp_path / "c").rglob("tokens/c/0/0"))
    data = shard.read_bytes()
    shard.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])
    (problem,) = verify_corpus(url, trust_code=True)
    assert problem.startswith(f"{remote.path}/parts/")
    with pytest.raises(DataError, match="cannot be read"):
        Corpus.open(url, trust_code=True).read_span(0, n)
    shard.unlink()
    with pytest.raises(DataError, match="tokens/c/0/0 is missing"):
        Corpus.open(url, trust_code=True).read_span(0, n)


def test_addresses_that_lead_nowhere_are_explained(served: str) -> None:
    pytest.importorskip("obstore")
    with pytest.raises(UsageError, match="foo://bucket/corpus cannot be opened"):
        Corpus.open("foo://bucket/corpus")
    with pytest.raises(DataError, match="not a corpus"):
        Corpus.open(f"{served}/nothing-here")


@pytest.mark.parametrize("positions", [1, 50, 1 << 20])
def test_reading_each_sequence_equals_reading_one_by_one(tmp_path, positions):
    corpus = build_from_records(random_texts(60, 40, seed=5), output=tmp_path / "c", tokenizer=Letters())
    for split in ("train", "validation"):
        found = dict(corpus.each(split, positions=positions))
        assert list(found) == corpus.sequences(split).tolist()
        for sequence, encoded in found.items():
            assert np.array_equal(encoded.ids, corpus.read(sequence).ids)
