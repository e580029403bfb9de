"""Files of vectors against the Python call; killed and begun again, they have the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import memory

import maskseq
from maskseq.apps.embed import embed_file
from maskseq.contract.identity import former_fingerprint
from maskseq.errors import DataError, UsageError
from maskseq.loaded import run as opened
from maskseq.model.checkpoint import save_model
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.storage.folder import to_json
from maskseq.storage.outputs import work_folder
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer

HIDDEN, CONTEXT, BATCH = 32, 64, 256
COMPLEMENT = str.maketrans("ACGT", "TGCA")
SMALL = {"batch_tokens": BATCH, "part_bytes": 12 * HIDDEN * 4}
"""Batches of 256 positions, parts of a dozen vectors."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    tokenizer = NucleotideTokenizer()
    shape = {"n_layers": 2, "hidden_size": HIDDEN, "n_heads": 2, "intermediate_size": 48, "max_positions": CONTEXT}
    save_model(folder, Encoder(preset("nano", tokenizer.vocabulary, **shape), seed=4), tokenizer)
    return folder


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 records, some longer than the context, one longer than a batch; two share a key."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "records.fa"
    lengths = rng.integers(1, 100, 90)
    lengths[[30, 60]] = 700, 150
    letters = ["".join(rng.choice(list("ACGT"), n)) for n in lengths]
    path.write_text("".join(f">r{i % 89}\n{text}\n" for i, text in enumerate(letters)))
    return path


def read(path: Path, pooling: str) -> list[tuple[str, np.ndarray]]:
    """Keys and vectors of an output, by the tools that people read such files with."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        keys, vectors = table["key"].to_pylist(), np.array(table["vector"].to_pylist(), np.float32)
        if pooling != "none":
            return list(zip(keys, vectors, strict=True))
        starts = np.flatnonzero(np.array(table["position"]) == 1)
        return list(zip([keys[s] for s in starts], np.split(vectors, starts[1:]), strict=True))
    if path.suffix == ".npz":
        saved = dict(np.load(path))
    else:
        import zarr

        saved = {name: array[:] for name, array in zarr.open_group(path, mode="r").arrays()}
    vectors = np.split(saved["vectors"], saved["offsets"][1:-1]) if pooling == "none" else saved["vectors"]
    return list(zip(saved["keys"].tolist(), vectors, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "max", "none"])
@pytest.mark.parametrize("ending", [".zarr", ".parquet", ".npz"])
def test_files_hold_what_python_returns_in_the_order_of_the_records(
    checkpoint: Path, fasta: Path, tmp_path: Path, pooling: Any, ending: str
) -> None:
    run = maskseq.load(checkpoint)
    output = tmp_path / f"v{ending}"
    summary = embed_file(run, fasta, output=output, pooling=pooling, part_bytes=5000)
    expected = list(run.embed(Fasta().read(fasta), pooling=pooling))
    found = read(output, pooling)
    assert [key for key, _ in found] == [f"r{i % 89}" for i in range(90)]
    for (key, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=key)
    n_vectors = sum(len(v) for _, v in expected) if pooling == "none" else 90
    assert (summary["records"], summary["vectors"], summary["dimensions"]) == (90, n_vectors, HIDDEN)
    assert list(tmp_path.iterdir()) == [output]


def test_a_run_trained_in_bf16_scores_and_embeds_in_it_where_that_is_fast(
    checkpoint: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "trained")
    (copy / "training_state").mkdir()
    (copy / "training_state" / "layout.json").write_text('{"precision": "bf16"}')
    records = list(Fasta().read(fasta))[:20]
    found = {}
    for here in ("bf16", "fp32"):
        monkeypatch.setattr(opened, "choose_precision", lambda *_, here=here: here)
        run = maskseq.load(copy)
        assert run.precision == here
        vectors = np.stack([vector for _, vector in run.embed(records)])
        output = tmp_path / f"{here}.npz"
        embed_file(run, fasta, output=output)
        np.testing.assert_allclose(np.load(output)["vectors"][:20], vectors, atol=0.05)
        found[here] = vectors, np.concatenate([score.bits for score in run.score(records)])
    for exact, rounded in zip(found["fp32"], found["bf16"], strict=True):
        assert not np.array_equal(exact, rounded)
        np.testing.assert_allclose(rounded, exact, atol=0.05)
    assert maskseq.load(checkpoint).precision == "fp32", "nothing says in which precision it was trained"


def test_both_strands_of_a_file_embed_alike(checkpoint: Path, fasta: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.fa"
    lines = fasta.read_text().splitlines()
    turned = [line if line.startswith(">") else line.translate(COMPLEMENT)[::-1] for line in lines]
    other.write_text("\n".join(turned) + "\n")
    run = maskseq.load(checkpoint)
    for symmetries in (True, False):
        vectors = []
        for file in (fasta, other):
            output = tmp_path / f"{file.stem}-{symmetries}.npz"
            embed_file(run, file, output=output, symmetries=symmetries)
            vectors.append(np.load(output)["vectors"])
        # The windows of a long record that is turned lie elsewhere; those that fit into the context agree.
        short = [len(line) <= CONTEXT for line in lines[1::2]]
        assert np.allclose(vectors[0][short], vectors[1][short], atol=1e-5) == symmetries


def files(folder: Path) -> dict[str, bytes]:
    if folder.is_file():
        return {"": folder.read_bytes()}
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def killed(checkpoint: Path, fasta: Path, output: Path, *, pooling: str, at: str) -> int:
    """Embed in a child that kills itself: at the n-th group, or when it opens a file that is named like `at`."""
    process = subprocess.run([sys.executable, __file__, str(checkpoint), str(fasta), str(output), pooling, at])
    return process.returncode


KILLS = ["4", "9", "000002.json", "OUTPUT"]


@pytest.mark.parametrize("kills", [KILLS[::3], pytest.param(KILLS, marks=pytest.mark.soak)], ids=len)
@pytest.mark.parametrize(("pooling", "ending"), [("mean", ".parquet"), ("none", ".zarr")])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    checkpoint: Path, fasta: Path, tmp_path: Path, pooling: Any, ending: str, kills: list[str]
) -> None:
    run = maskseq.load(checkpoint)
    whole = tmp_path / f"whole{ending}"
    embed_file(run, fasta, output=whole, pooling=pooling, **SMALL)
    broken = tmp_path / f"broken{ending}"
    made_at, resumed = f"{work_folder(broken)}/content", []
    for at in kills:
        assert killed(checkpoint, fasta, broken, pooling=pooling, at=at.replace("OUTPUT", made_at)) == -9
        assert not broken.exists()
        resumed.append(len(list((work_folder(broken) / "parts").glob("0*.json"))))
    assert resumed == sorted(resumed)
    assert resumed[-1] > resumed[0]
    summary = embed_file(run, fasta, output=broken, pooling=pooling, **SMALL)
    assert summary["records resumed"] == 90  # the last kill was after everything was computed
    assert files(broken) == files(whole)
    assert set(tmp_path.iterdir()) == {broken, whole}


def test_what_was_begun_otherwise_is_not_gone_on_with(checkpoint: Path, fasta: Path, tmp_path: Path) -> None:
    run, output = maskseq.load(checkpoint), tmp_path / "v.zarr"
    assert killed(checkpoint, fasta, output, pooling="mean", at="4") == -9
    for changes in ({"pooling": "max"}, {"symmetries": False}, {"batch_tokens": 99}):
        with pytest.raises(UsageError, match="holds the beginning of another embedding"):
            embed_file(run, fasta, output=output, **(SMALL | changes))
    other = tmp_path / fasta.name
    other.write_text(fasta.read_text().replace("A", "C"))
    with pytest.raises(UsageError, match="another embedding"):
        embed_file(run, other, output=output, **SMALL)


def test_what_an_older_version_began_goes_on(checkpoint: Path, fasta: Path, tmp_path: Path) -> None:
    """It says the tokenizer's fingerprint as it was, of module, class and state."""
    run, output = maskseq.load(checkpoint), tmp_path / "v.npz"
    assert killed(checkpoint, fasta, output, pooling="mean", at="9") == -9
    about = work_folder(output) / "parts" / "about.json"
    reported = json.loads(about.read_text())
    assert reported["tokenizer"] == run.tokenizer.fingerprint != former_fingerprint(run.tokenizer)
    about.write_bytes(to_json(reported | {"tokenizer": former_fingerprint(run.tokenizer)}))
    assert embed_file(run, fasta, output=output, **SMALL)["records resumed"] > 0


def test_what_cannot_be_written_is_said_before_anything_is(checkpoint: Path, fasta: Path, tmp_path: Path) -> None:
    run = maskseq.load(checkpoint)
    with pytest.raises(UsageError, match=r"it can be \.zarr, \.parquet, \.npz"):
        embed_file(run, fasta, output=tmp_path / "v.csv")
    (tmp_path / "v.npz").touch()
    with pytest.raises(UsageError, match="exists already"):
        embed_file(run, fasta, output=tmp_path / "v.npz")
    empty = tmp_path / "empty.fa"
    empty.write_text(";nothing\n")
    with pytest.raises((DataError, UsageError), match="no records"):
        embed_file(run, empty, output=tmp_path / "w.npz")
    assert not (tmp_path / "w.npz").exists()


@pytest.mark.soak
@pytest.mark.parametrize("ending", [".zarr", ".parquet"])
def test_memory_does_not_grow_with_the_file(checkpoint: Path, tmp_path: Path, ending: str) -> None:
    """Per token, one record ten times as long as the other: 154 MB of vectors."""
    peaks = []
    for n in (120_000, 1_200_000):
        file = tmp_path / f"{n}.fa"
        file.write_text(">x\n" + "ACGTTGCA" * (n // 8) + "\n")
        command = [sys.executable, __file__, str(checkpoint), str(file), str(tmp_path / f"{n}{ending}"), "none", ""]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 60e6


def main(checkpoint: str, file: str, output: str, pooling: Any, at: str) -> None:
    groups: Iterator[int] = iter(range(1, 1_000_000))

    def listen(done: int, of: int | None) -> None:
        if at.isdecimal() and next(groups) == int(at):
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename") and at and not at.isdecimal() and at in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    options = SMALL if at else {}
    embed_file(
        maskseq.load(checkpoint), Path(file), output=Path(output), pooling=pooling, on_progress=listen, **options
    )
    print(memory("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
