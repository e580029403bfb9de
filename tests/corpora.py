"""A small tokenizer, format and files for the tests of the corpus, importable by the processes that they start.

`python tests/corpora.py build FILE OUTPUT WORKERS` builds, `… read CORPUS` visits all rows and prints its peak memory.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.formats import Format
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Field, Record

PART_UNITS = 2_000


@dataclass(frozen=True, kw_only=True)
class Text(Record):
    text: str
    begin: float | None = None

    def __len__(self) -> int:
        return len(self.text)

    def span(self) -> tuple[float, float] | None:
        return None if self.begin is None else (self.begin, self.begin + len(self.text))

    def cut(self, start: int, stop: int) -> "Text":
        return Text(key=self.key, text=self.text[start:stop])


@dataclass(frozen=True, kw_only=True)
class Letters(Tokenizer[Text]):
    """A letter (complements a↔d, b↔c; `?` is unknown) and whether it is an a or a d; with weights, b counts half."""

    weighted: bool = False
    fields = (Field(name="letter", tokens=tuple("abcd")), Field(name="outer", tokens=("no", "yes")))

    def encode(self, record: Text) -> Encoded:
        letter = np.array(["abcd?".index(value) for value in record.text], np.uint8)
        ids = np.stack([letter, np.where(letter == 4, 2, (letter == 0) | (letter == 3))], axis=1).astype(np.uint8)
        weights = np.where(letter == 1, 0.5, 1.0)[:, None].repeat(2, axis=1)
        return Encoded(ids, None, weights if self.weighted and "b" in record.text else None)

    def decode(self, ids: np.ndarray) -> str:
        return "".join("abcd?"[i] for i in ids[:, 0])

    def symmetries(self) -> tuple[Symmetry[Text], ...]:
        return (Symmetry(name="rc", transform=complement, id_maps=((3, 2, 1, 0, 4), (0, 1, 2)), reverse=True),)


def complement(record: Text) -> Text:
    return Text(key=record.key, text=record.text[::-1].translate(str.maketrans("abcd", "dcba")))


@dataclass(frozen=True)
class Lines(Format[Text]):
    """`key letters` on each line."""

    def read(self, path: Path) -> Iterator[Text]:
        for line in path.read_text().splitlines():
            key, _, text = line.partition(" ")
            yield Text(key=key, text=text)

    def write(self, records: Iterable[Text], path: Path) -> None:
        path.write_text("".join(f"{record.key} {record.text}\n" for record in records))


@dataclass(frozen=True, kw_only=True)
class Array(Record):
    values: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True)
class Numbers(Tokenizer[Array]):
    """Two fields of 16-bit ids."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return NUMBERS

    def encode(self, record: Array) -> Encoded:
        return Encoded(record.values)

    def decode(self, ids: np.ndarray) -> Any:
        return ids.tolist()


NUMBERS = tuple(Field(name=name, tokens=tuple(map(str, range(5000)))) for name in ("left", "right"))


def random_texts(n: int, longest: int, *, seed: int = 0, letters: str = "abcd?") -> list[Text]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=n)
    return [Text(key=f"r{i}", text="".join(rng.choice(list(letters), size=k))) for i, k in enumerate(lengths)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus but its locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def child(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Run this module as a process of its own."""
    inherited = filter(None, [os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *inherited])}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def main(task: str, *arguments: str) -> None:
    from maskseq.corpus.build import build_corpus
    from maskseq.errors import MaskseqError
    from maskseq.storage import lease

    if task == "build":
        source, output, workers = arguments
        if "MASKSEQ_TEST_LEASE" in os.environ:
            lease.RENEWAL, lease.PATIENCE = map(float, os.environ["MASKSEQ_TEST_LEASE"].split())
        try:
            build_corpus(
                [Path(source)],
                output=output,
                tokenizer=Letters(),
                format=Lines(),
                workers=int(workers),
                part_units=PART_UNITS,
                overwrite=True,
            )
        except MaskseqError as error:
            print(type(error).__name__, error, file=sys.stderr)
            sys.exit(error.exit_code)
    if task == "read":
        print(peak_memory_of_reading(Path(*arguments)))
    if task == "plan":
        print(*cost_of_planning(int(*arguments)))


def peak_memory_of_reading(path: Path) -> int:
    """Bytes of memory that it takes at most to visit every row of an epoch, beyond what the imports left."""
    import zarr.storage  # noqa: F401 - imports do not count

    from maskseq.corpus.reader import Corpus
    from maskseq.masking.config import MaskingConfig
    from maskseq.packing.rows import PackedRows, PackingConfig

    before = memory("VmRSS")
    corpus = Corpus.open(path, trust_code=True)
    rows = PackedRows(corpus, config=PackingConfig(), masking=MaskingConfig(), seed=0)
    n_tokens = 0
    for number in range(0, rows.n_rows(), 100):  # every block is read
        n_tokens += rows.row(number).n_tokens
    assert n_tokens > 0
    return memory("VmHWM") - before


def cost_of_planning(n: int) -> tuple[float, float]:
    """Processor seconds and megabytes that it takes to plan an epoch of `n` sequences of log-normal length."""
    from maskseq.packing.packing import PackingConfig, PackingPlan

    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(160), 0.7, n), 1, 20_000).astype(np.int64)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of drawing the lengths is not that of planning
    before, seconds = memory("VmRSS") - lengths.nbytes, time.process_time()
    n_tokens = sum(int(block.length.sum()) for block in PackingPlan(lengths, PackingConfig(), key=(0, 0)).epoch(0))
    assert n_tokens == lengths.sum()
    return time.process_time() - seconds, (memory("VmHWM") - before) / 1e6


def memory(kind: str) -> int:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM).

    Not `ru_maxrss`, which starts at the peak of the process that started this one.
    """
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    import corpora  # by its name, which the manifest repeats

    corpora.main(*sys.argv[1:])
