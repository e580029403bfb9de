"""A trained run at work: fill, score and embed records, and take the encoder elsewhere."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from maskseq.constraints import intersection
from maskseq.errors import UsageError
from maskseq.inference.chunks import Filled, Task, fill_records
from maskseq.inference.embed import Pooling, embed_records
from maskseq.inference.infill import InfillConfig
from maskseq.inference.predict import EncoderPredict
from maskseq.inference.score import Score, score_records
from maskseq.model.checkpoint import load_model
from maskseq.model.encoder import Encoder
from maskseq.model.interop import export_hf, export_onnx
from maskseq.ranges import Range, hidden_cells
from maskseq.rules import NamedRule
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, LegalCells


def load(run: Path | str, *, trust_code: bool = False) -> "Run":
    """A run folder, or one of its checkpoints, ready to infill, score and embed."""
    if not Path(run).is_dir():
        raise UsageError(
            f"{run}: there is no such run folder\n\nhint: `maskseq pretrain RECIPE --output {run}` makes one"
        )
    model, tokenizer = load_model(Path(run), trust_code=trust_code)
    return Run(Path(run), model, tokenizer)


@dataclass(frozen=True)
class FilledRecord:
    """A record with its holes filled, and what stood there before."""

    record: Any
    """The record with the first sample written into it; everything else is as it was."""
    before: Encoded
    """The record as it was given, so that what was known and hidden on purpose can be compared."""
    filled: Filled
    """The values, all samples of them, with their probabilities."""


@dataclass(frozen=True)
class Run:
    """A trained encoder and the tokenizer that belongs to it."""

    path: Path
    model: Encoder
    tokenizer: Tokenizer[Any]

    def predict(self, *, symmetries: bool = True) -> EncoderPredict:
        """Log-probabilities of hidden cells, averaged over the tokenizer's symmetries unless told otherwise."""
        return EncoderPredict(self.model, self.tokenizer.symmetries() if symmetries else ())

    def infill(
        self,
        records: Iterable[Any],
        *,
        ranges: Mapping[str, Sequence[Range]] = MappingProxyType({}),
        rules: Sequence[str] = (),
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        fill_long_holes: bool = False,
    ) -> Iterator[FilledRecord]:
        """Fill every unknown cell of the records, and whatever lies in `ranges` (of raw units, by record key).

        `rules` are kept by every fill, such as `motif=NNRYN@chr1:101-105`: see `maskseq.rules` and the tokenizer's.
        Streams in the order of the records; those without holes come back unchanged. Known cells never change.
        """
        waiting: deque[tuple[Any, Encoded, Bool[np.ndarray, "_ _"]]] = deque()
        only = ranges.get("", ())
        named = [NamedRule.parse(text) for text in rules]

        def tasks() -> Iterator[Task]:
            for record in records:
                encoded = self.tokenizer.encode(record)
                asked = [*ranges.get(record.key, ()), *only]
                holes = ~self.tokenizer.vocabulary.known(encoded.ids)
                holes |= hidden_cells(self.tokenizer, encoded, record.key, len(record), asked)
                waiting.append((record, encoded, holes))
                yield _task(record.key, encoded, holes, self.tokenizer, named)

        has_grammar = type(self.tokenizer).allowed is not Tokenizer.allowed
        for filled in fill_records(
            self.predict(symmetries=symmetries),
            tasks(),
            config,
            vocabulary=self.tokenizer.vocabulary,
            context=self.model.config.max_positions,
            grammar=self.tokenizer.allowed if has_grammar else None,
            fill_long_holes=fill_long_holes,
        ):
            record, before, holes = waiting.popleft()
            if holes.any():
                written = np.zeros_like(holes)
                written[tuple(filled.fill.cells.T)] = True
                record = self.tokenizer.splice(record, filled.fill.written(before.ids), written)
            yield FilledRecord(record, before, filled)

    def score(self, records: Iterable[Any], *, stride: int | None = 8, symmetries: bool = True) -> Iterator[Score]:
        """Bits of every known cell given the others, streaming; see `maskseq.inference.score.score_records`."""
        return score_records(
            self.predict(symmetries=symmetries),
            ((record.key, self.tokenizer.encode(record)) for record in records),
            tokenizer=self.tokenizer,
            context=self.model.config.max_positions,
            stride=stride,
        )

    def embed(
        self, records: Iterable[Any], *, pooling: Pooling = "mean", symmetries: bool = True
    ) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
        """Keys and float32 vectors: one a record, or with pooling "none" one a position; streaming."""
        return embed_records(
            self.model,
            ((record.key, self.tokenizer.encode(record)) for record in records),
            pooling=pooling,
            symmetries=self.tokenizer.symmetries() if symmetries else (),
            context=self.model.config.max_positions,
        )


def _task(
    key: str, encoded: Encoded, holes: Bool[np.ndarray, "_ _"], tokenizer: Tokenizer[Any], rules: Sequence[NamedRule]
) -> Task:
    """A record to fill, under the rules that are about it."""
    legal, constraints = encoded.legal, []
    for named in rules:
        if named.key in ("", key):
            rule = named.about(tokenizer, encoded)
            if isinstance(rule, LegalCells):
                _check_known(key, encoded, holes, named, rule)
                legal = rule if legal is None else intersection(legal, rule)
            else:
                constraints.append(rule)
    return Task(key, replace(encoded, legal=legal), holes, constraints)


def _check_known(
    key: str, encoded: Encoded, holes: Bool[np.ndarray, "_ _"], named: NamedRule, rule: LegalCells
) -> None:
    """`UsageError` where a value that stays as it is breaks the rule."""
    stays = ~holes[tuple(rule.cells.T)]
    values = encoded.ids[tuple(rule.cells.T)]
    broken = rule.cells[stays & ~rule.allowed[np.arange(len(values)), np.minimum(values, rule.allowed.shape[1] - 1)]]
    if len(broken):
        raise UsageError(
            f"record {key!r}: the known value at position {broken[0, 0] + 1} breaks the rule {named.name}="
            f"{named.argument}\n\nhint: hide it as well, or change the rule"
        )


def write_vectors(vectors: Iterable[tuple[str, Float[np.ndarray, "hidden"]]], path: Path) -> int:
    """Write keys and vectors as an `.npz` file, which appears when it is whole; returns how many there are."""
    found = list(vectors)
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as file:
            np.savez(file, keys=np.array([key for key, _ in found]), vectors=np.stack([vector for _, vector in found]))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return len(found)


def export_checkpoint(run: Run, output: Path, *, format: Literal["hf", "onnx"]) -> str:
    """Write a run's encoder for transformers or as ONNX; returns what was written."""
    if output.exists():
        raise UsageError(f"{output} exists already\n\nhint: choose another name with --output")
    if format == "hf":
        return export_hf(run.model, output, tokenizer=run.tokenizer)
    export_onnx(run.model, output)
    return "an ONNX model of one sequence of any length"
