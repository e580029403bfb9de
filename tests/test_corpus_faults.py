"""Whatever happens to a corpus or to a build is reported; damaged data are never read."""

import random
import resource
import shutil
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import PART_UNITS, Array, Letters, Lines, Numbers, child, random_texts, tree

from maskseq.corpus.build import build_corpus, build_from_records
from maskseq.corpus.reader import Corpus, verify_corpus
from maskseq.errors import DataError, UsageError
from maskseq.storage import folder as storage
from maskseq.storage.local import LocalFolder


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    Lines().write(random_texts(80, 200), folder / "letters.txt")
    return build(folder / "letters.txt", folder / "intact")


def build(source: Path, output: Path, **options: Any) -> Path:
    tokenizer = Letters(weighted=True)
    build_corpus([source], output=output, tokenizer=tokenizer, format=Lines(), part_units=PART_UNITS, **options)
    return output


def read_everything(path: Path) -> list[object]:
    """All that a corpus holds, through a freshly opened one."""
    corpus = Corpus.open(path, trust_code=True)
    read = corpus.read_span(0, corpus.manifest["positions"])
    assert read.weights is not None
    keys = [(corpus.key(i), int(corpus.starts[i])) for i in range(len(corpus.lengths))]
    return [corpus.fingerprint, keys, read.ids.tobytes(), read.weights.tobytes()]


@cache
def truth_of(intact: Path) -> list[object]:
    return read_everything(intact)


def reads_nothing_wrong(corpus: Path, intact: Path) -> bool:
    """Damaged data are refused; damage to what reading does not use does not disturb it."""
    try:
        return read_everything(corpus) == truth_of(intact)
    except DataError:
        return True


def flipped_bits(intact: Path, aside: Path, n: int) -> None:
    """Flip one random bit at a time, of all files weighted by size."""
    corpus = shutil.copytree(intact, aside)
    rng = random.Random(4)
    files = [path for path in sorted(corpus.rglob("*")) if path.is_file() and not path.name.startswith(".lock")]
    sizes = [path.stat().st_size for path in files]
    assert verify_corpus(corpus, trust_code=True) == []
    for _ in range(n):
        (path,) = rng.choices(files, sizes)
        data = path.read_bytes()
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :])
        (problem,) = verify_corpus(corpus, trust_code=True)
        part = next((name for name in path.parts if name.endswith(".zarr")), path.name)
        assert part in problem
        first, last = (int(edge) for edge in problem.split("bytes ")[1].split(":")[0].split("-"))
        assert first <= at < last <= first + storage.BLOCK
        assert reads_nothing_wrong(corpus, intact)
        path.write_bytes(data)
    assert verify_corpus(corpus, trust_code=True) == []


def test_a_flipped_bit_anywhere_is_located_and_never_read(intact: Path, tmp_path: Path) -> None:
    flipped_bits(intact, tmp_path / "c", 40)


@pytest.mark.soak
def test_two_hundred_flipped_bits(intact: Path, tmp_path: Path) -> None:
    flipped_bits(intact, tmp_path / "c", 200)


def lost_files(intact: Path, aside: Path, *, parts: str) -> None:
    """Remove and truncate every file outside the parts, and every file of some parts, one at a time."""
    corpus = shutil.copytree(intact, aside)
    files = [path for path in corpus.iterdir() if path.is_file() and not path.name.startswith(".lock")]
    files += [path for path in corpus.glob(f"parts/*/{parts}/**/*") if path.is_file()]
    assert len(files) >= 18
    for path in files:
        data = path.read_bytes()
        for damage in (path.unlink, lambda path=path, data=data: path.write_bytes(data[:-1])):
            damage()
            (problem, *_) = verify_corpus(corpus, trust_code=True)
            assert path.name in problem or "no manifest.json here" in problem
            assert reads_nothing_wrong(corpus, intact)
            path.write_bytes(data)
    assert read_everything(corpus) == truth_of(intact)


def test_a_removed_or_truncated_file_is_named_and_never_read_as_zeros(intact: Path, tmp_path: Path) -> None:
    lost_files(intact, tmp_path / "c", parts="000001.zarr")


@pytest.mark.soak
def test_every_removed_or_truncated_file(intact: Path, tmp_path: Path) -> None:
    lost_files(intact, tmp_path / "c", parts="*.zarr")


def test_a_shard_that_disappears_after_opening_is_not_read_as_zeros(intact: Path, tmp_path: Path) -> None:
    path = shutil.copytree(intact, tmp_path / "c")
    corpus = Corpus.open(path, trust_code=True)
    corpus.read(0)
    min(path.rglob("tokens/c/0/0")).unlink()
    with pytest.raises(DataError, match="tokens/c/0/0 is missing"):
        corpus.read(0)


def test_a_damaged_part_is_rebuilt_when_it_is_deleted(intact: Path, tmp_path: Path) -> None:
    path = shutil.copytree(intact, tmp_path / "c")
    shutil.rmtree(min(path.rglob("000001.zarr")))
    build(intact.parent / "letters.txt", path)
    assert tree(path) == tree(intact)


def killed_builds(tmp_path: Path, n: int) -> None:
    """Kill a build with two workers at random moments; what is built afterwards equals an undisturbed corpus."""
    source = tmp_path / "letters.txt"
    Lines().write(random_texts(60, 400), source)
    began = time.monotonic()
    undisturbed = child("build", source, tmp_path / "undisturbed", 2)
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    duration = time.monotonic() - began
    rng = random.Random(1)
    for attempt in range(n):
        output = tmp_path / f"killed-{attempt}"
        builder = child("build", source, output, 2)
        time.sleep(rng.uniform(0.2, 1) * duration)
        builder.kill()
        builder.communicate()
        again = child("build", source, output, 2)
        _, errors = again.communicate()
        assert again.returncode == 0, errors
        assert tree(output) == tree(tmp_path / "undisturbed")


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    killed_builds(tmp_path, 2)


@pytest.mark.soak
def test_twenty_five_killed_builds(tmp_path: Path) -> None:
    killed_builds(tmp_path, 25)


def test_resuming_keeps_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "letters.txt"
    Lines().write(random_texts(80, 200), source)

    def interrupted(units: int, of: int | None) -> None:
        if len(list((tmp_path / "c").rglob("part.json"))) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "c", progress=interrupted)
    with pytest.raises(DataError, match="its build did not finish"):
        Corpus.open(tmp_path / "c")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("part.json")}
    assert len(written) >= 3
    build(source, tmp_path / "c")
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


@pytest.mark.parametrize("largest_file", [700, 3500])  # in the midst of a part; at the manifest
def test_a_full_disk_is_one_clear_line_and_the_corpus_before_stays(tmp_path: Path, largest_file: int) -> None:
    """A limit on the size of files stands in for the full disk: the kernel refuses the write."""
    source, other = tmp_path / "letters.txt", tmp_path / "other.txt"
    Lines().write(random_texts(50, 200), source)
    Lines().write(random_texts(25, 2000, seed=1), other)
    path = build(source, tmp_path / "c")
    before = tree(path)
    limit = (largest_file, largest_file)
    limited = child("build", other, path, 1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, errors = limited.communicate()
    assert limited.returncode == 3, errors
    assert f"DataError {path}" in errors
    assert "cannot be written: File too large" in errors
    assert "Traceback" not in errors
    after = tree(path)
    assert {name: after[name] for name in before} == before
    assert verify_corpus(path, trust_code=True) == []
    assert not list(path.rglob(".*.maskseq"))  # and its space is free again


def test_a_second_builder_stops_with_a_clear_word(tmp_path: Path) -> None:
    source = tmp_path / "letters.txt"
    Lines().write(random_texts(10, 200), source)
    output = tmp_path / "c"
    output.mkdir()
    with LocalFolder(output).exclusive():
        second = child("build", source, output, 1)
        _, errors = second.communicate()
        assert second.returncode == 2
        assert "another process is building this corpus" in errors
    build(source, output)  # the lock does not outlive its owner


def test_shares_of_a_build_run_beside_each_other_but_not_beside_a_whole_one(tmp_path: Path) -> None:
    with LocalFolder(tmp_path).exclusive(shared_as="1-of-2"):
        with LocalFolder(tmp_path).exclusive(shared_as="2-of-2"):
            pass
        for other in ("1-of-2", None):
            with pytest.raises(UsageError), LocalFolder(tmp_path).exclusive(shared_as=other):
                pass


def peak_memory(tmp_path: Path, megabytes: int) -> float:
    """Peak memory, in megabytes, of a process that visits a corpus of random 16-bit ids."""
    rng = np.random.default_rng(0)
    records = (
        Array(key=str(i), values=rng.integers(5000, size=(rng.integers(100, 20_000), 2), dtype=np.uint16))
        for i in range(megabytes * 25)
    )
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=Numbers())
    assert 4 * corpus.manifest["positions"] > 0.95e6 * megabytes
    reader = child("read", tmp_path / "c")
    output, errors = reader.communicate()
    assert reader.returncode == 0, errors
    return int(output) / 1e6


def test_a_corpus_is_read_without_being_held_in_memory(tmp_path: Path) -> None:
    assert peak_memory(tmp_path, 200) < 150


@pytest.mark.soak
def test_two_gigabytes_are_read_in_less_than_one(tmp_path: Path) -> None:
    assert peak_memory(tmp_path, 2000) < 1000
