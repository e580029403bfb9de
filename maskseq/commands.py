"""What maskseq does, as functions: the Python API. Only this module knows the whole."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskseq import plugins
from maskseq.data.batches import Rows
from maskseq.data.build import Progress, build_corpus, build_from_records
from maskseq.data.corpus import Corpus
from maskseq.data.splits import training_records
from maskseq.errors import UsageError
from maskseq.inference.chunks import Filled, Task, fill_records
from maskseq.inference.embed import Pooling, embed_records
from maskseq.inference.infill import InfillConfig
from maskseq.inference.predict import EncoderPredict
from maskseq.inference.score import Score, score_records
from maskseq.model.checkpoint import load_model
from maskseq.model.encoder import Encoder
from maskseq.ranges import Range, hidden_cells
from maskseq.recipe import Recipe, load_recipe
from maskseq.tokenizer import Tokenizer
from maskseq.training.events import Listener
from maskseq.training.trainer import train
from maskseq.types import Encoded, Record


def pretrain(
    recipe: Path | str | Mapping[str, Any] | Recipe,
    *,
    output: Path | str,
    overrides: Sequence[str] = (),
    tokenizer: Tokenizer[Any] | None = None,
    records: Iterable[Record] | None = None,
    corpus: Corpus | None = None,
    on_event: Listener = lambda event: None,
) -> "Run":
    """Pretrain into the run folder `output`, or go on with the same run there; returns it loaded.

    `tokenizer` and `records` are for objects that a recipe cannot name: they take the place of its `[tokenizer]`
    section and of `data.files`. `corpus` is one that is open already. Raises `UsageError` for a recipe or folder that
    does not fit, `DataError` for broken data, and `KeyboardInterrupt` when interrupted, after a checkpoint.
    """
    resolved = load_recipe(recipe, overrides)
    output = Path(output)
    if corpus is None:
        corpus = prepare_corpus(resolved, default=output / "corpus", tokenizer=tokenizer, records=records)
    training_rows, validation_rows = rows_of(resolved, corpus, cache=output)
    train(
        Encoder(resolved.encoder_config(corpus.tokenizer.vocabulary), seed=resolved.seed),
        training_rows,
        validation_rows,
        config=resolved.training,
        optimizer=resolved.optimizer,
        schedule=resolved.schedule,
        run=output,
        tokenizer=corpus.tokenizer,
        seed=resolved.seed,
        identity={"recipe": resolved.to_json(), "corpus": corpus.fingerprint},
        on_event=on_event,
    )
    return load(output, trust_code=True)


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
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        fill_long_holes: bool = False,
    ) -> Iterator[FilledRecord]:
        """Fill every unknown cell of the records, and whatever lies in `ranges` (of raw units, by record key).

        Streams in the order of the records; those without holes come back unchanged. Known cells never change.
        """
        waiting: deque[tuple[Any, Encoded, Bool[np.ndarray, "_ _"]]] = deque()
        only = ranges.get("", ())

        def tasks() -> Iterator[Task]:
            for record in records:
                encoded = self.tokenizer.encode(record)
                asked = [*ranges.get(record.key, ()), *only]
                holes = ~self.tokenizer.vocabulary.known(encoded.ids)
                holes |= hidden_cells(self.tokenizer, encoded, record.key, len(record), asked)
                waiting.append((record, encoded, holes))
                yield Task(record.key, encoded, holes)

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


def prepare_corpus(
    recipe: Recipe,
    *,
    default: Path,
    tokenizer: Tokenizer[Any] | None = None,
    records: Iterable[Record] | None = None,
    on_build: Callable[[Progress], None] | None = None,
) -> Corpus:
    """Open the recipe's corpus, building it (or what is missing of it) first where the recipe names files."""
    folder = Path(recipe.data.corpus) if recipe.data.corpus else default
    paths = [Path(name) for name in recipe.data.files]
    if records is None and not paths:
        if recipe.data.corpus is None:
            raise UsageError(
                'the recipe names no data\n\nhint: in its [data] section, set files = ["…"] or corpus = "…"'
            )
        return Corpus.open(folder)
    split = recipe.data.split
    if records is not None:
        kept = list(records)
        tokenizer = tokenizer or fit_tokenizer(recipe, training_records(lambda: kept, split))
        return build_from_records(kept, output=folder, tokenizer=tokenizer, split=split, on_error=recipe.data.on_error)
    reader = recipe.reader(paths[0])

    def read() -> Iterator[Record]:
        return itertools.chain.from_iterable(map(reader.read, paths))

    tokenizer = tokenizer or fit_tokenizer(recipe, training_records(read, split))
    return build_corpus(
        paths,
        output=folder,
        tokenizer=tokenizer,
        format=reader,
        split=split,
        workers=recipe.data.workers,
        on_error=recipe.data.on_error,
        progress=on_build,
    )


def fit_tokenizer(recipe: Recipe, records: Iterable[Record]) -> Tokenizer[Any]:
    """The tokenizer of the recipe's `[tokenizer]` section; what it learns, it learns from `records`."""
    options = dict(recipe.tokenizer)
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(sorted(plugins.available("tokenizers")))
        raise UsageError(f'[tokenizer] needs a name, such as name = "nucleotide"\n\nhint: installed are {known}')
    fitted: Tokenizer[Any] = plugins.load("tokenizers", name).fit(records, **options)
    return fitted


def rows_of(recipe: Recipe, corpus: Corpus, *, cache: Path | None = None) -> tuple[Rows, Rows | None]:
    """Training rows, and validation rows under one fixed mask key (None where nothing is held out)."""
    total = recipe.training.tokens
    _, decay = recipe.schedule.lengths(total)
    training = Rows(
        corpus,
        split="train",
        config=recipe.batch,
        masking=recipe.masking,
        seed=recipe.seed,
        total_tokens=total,
        decay_start=1 - decay / total,
        cache=cache,
    )
    if not len(corpus.sequences("validation")):
        return training, None
    return training, Rows(
        corpus, split="validation", config=recipe.batch, masking=recipe.masking, seed=recipe.seed, mask_epoch=0
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
