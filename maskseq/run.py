"""A trained run at work: fill, score and embed records, and take the encoder elsewhere."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError

from maskseq.beyond import watched
from maskseq.calibration import Fitted, read_calibration, write_calibration
from maskseq.data.corpus import Corpus
from maskseq.data.places import Place
from maskseq.errors import DataError, UsageError
from maskseq.fence import encode
from maskseq.files import plain_name
from maskseq.filling import Asked, FilledRecord, Filler
from maskseq.identity import in_fields, saved_form
from maskseq.inference.calibrate import Calibration
from maskseq.inference.embed import Pooling, embed_records
from maskseq.inference.fill import Predict
from maskseq.inference.holdout import calibrate_on
from maskseq.inference.infill import InfillConfig
from maskseq.inference.journal import Journal
from maskseq.inference.length_head import (
    FittedHead,
    fit_length_head,
    length_judge,
    load_length_head,
    save_length_head,
)
from maskseq.inference.predict import EncoderPredict
from maskseq.inference.score import Score, score_records
from maskseq.inference.variants import VariantScore, score_variants
from maskseq.model.checkpoint import find_checkpoint, read_json, read_model
from maskseq.model.encoder import Encoder
from maskseq.model.interop import export_hf, export_onnx
from maskseq.names import named
from maskseq.outputs import claimed, locked, sync
from maskseq.plugins import Trust, open_format
from maskseq.renamed import in_folder, of_recipe
from maskseq.tokenizer import Format, Tokenizer
from maskseq.training.run import RECIPE
from maskseq.types import Encoded
from maskseq.variants import Listed, Records, stretches


def load(run: Path | str, *, trust_code: Trust = False, tokenizer: Tokenizer[Any] | None = None) -> "Run":
    """A run folder, or one of its checkpoints, ready to infill, score and embed.

    Loading executes nothing that is not installed: names of code in the folder are refused unless `trust_code` allows
    them, here and in whatever the run opens later. `tokenizer` is an object that is here already, such as the one that
    the run was trained with: it needs no trust.
    """
    if not Path(run).is_dir():
        raise UsageError(
            f"{run}: there is no such run folder\n\nhint: `maskseq pretrain RECIPE --output {run}` makes one"
        )
    checkpoint = find_checkpoint(Path(run))
    model, own = read_model(checkpoint, trust_code=trust_code, known=tokenizer)
    trained_on(Path(run), checkpoint)  # a changed recipe is reported now
    return Run(Path(run), model, own, checkpoint, trust_code)


@dataclass(frozen=True)
class TrainedOn:
    """What `recipe.json` says of the files that a run was trained on."""

    source: str = RECIPE
    """That file itself."""
    files: tuple[str, ...] = ()
    format: str | None = None
    format_options: dict[str, Any] = field(default_factory=dict)


def trained_on(run: Path, checkpoint: Path) -> TrainedOn:
    """What the run's recipe says of its files; nothing where there is no recipe, as beside an imported encoder."""
    source = recipe_file(run, checkpoint)
    recipe = read_json(source).get("recipe") if source else None
    recipe = of_recipe(recipe) if isinstance(recipe, dict) else recipe
    data = recipe.get("data", {}) if isinstance(recipe, dict) else {}
    if not isinstance(data, dict):
        raise DataError(source or run, "should be a section", place="recipe.data")
    known = {name: data[name] for name in ("files", "format", "format_options") if name in data}
    try:
        return TypeAdapter(TrainedOn).validate_python(known | {"source": str(source or "")})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("recipe", "data", *first["loc"])))
        raise DataError(source or run, first["msg"], place=where) from None


def recipe_file(run: Path, checkpoint: Path) -> Path | None:
    """Where the recipe of a run is; `DataError` if it was changed since the checkpoint was sealed with its own copy."""
    ours, sealed = run / RECIPE, checkpoint / RECIPE
    if not sealed.exists():  # written before checkpoints had one
        return ours if ours.exists() else None
    if ours.exists() and ours.read_bytes() != sealed.read_bytes():
        raise DataError(
            ours, f"was changed since {checkpoint.name} was written, which has the recipe as it was: {sealed}"
        )
    return sealed


@dataclass(frozen=True)
class Run:
    """A trained encoder and the tokenizer that belongs to it."""

    path: Path
    model: Encoder
    tokenizer: Tokenizer[Any]
    checkpoint: Path
    """Which one of the run's."""
    trust_code: Trust = False
    """Which code that is not installed may be loaded for it: what `load` was given."""

    @cached_property
    def fitted(self) -> Fitted | None:
        """Its calibration, if there is one; `DataError` if that cannot be read."""
        return read_calibration(self.checkpoint)

    def reader(self, file: Path, name: str | None = None) -> Format[Any]:
        """The format called `name`; by default that of the training files, with its options, if `file` ends as one."""
        trust_code = self.trust_code if name is None else True  # who names code in this call means it
        data = trained_on(self.path, self.checkpoint)
        alike = any(_ending(other) in (_ending(file.name), _ending(plain_name(file))) for other in data.files)
        if alike and name in (None, data.format):
            return open_format(file, data.format, data.format_options, trust_code=trust_code, source=data.source)
        return open_format(file, name, {}, trust_code=trust_code)

    def corpus(self, place: Place | None = None) -> Corpus:
        """The corpus that it was trained on, if it is still there, or another one whose tokens are the same.

        `UsageError` for one whose ids mean something else.
        """
        found = Corpus.open(place or in_folder(self.path, "corpus"), trust_code=self.trust_code, known=self.tokenizer)
        if other := in_fields(saved_form(found.tokenizer), self.tokenizer):
            raise UsageError(
                f"{found.path} was not tokenized as {self.path} needs it: its ids mean other values ({other})\n\n"
                f"hint: build one with `maskseq tokenize` and the recipe of the run"
            )
        return found

    @cached_property
    def fills(self) -> Tokenizer[Any]:
        """The tokenizer of what infill fills: the run's own, or that of raw units where several tokens share each."""
        view = self.tokenizer.by_unit()
        return self.tokenizer if view is None else view[0]

    def predict_fills(self, *, symmetries: bool = True) -> Predict:
        """The model as infill asks it, about cells of `fills`."""
        view = self.tokenizer.by_unit()
        plain = self.predict(symmetries=symmetries)
        return plain if view is None else view[1](plain)

    def predict(self, *, symmetries: bool = True) -> EncoderPredict:
        """Log-probabilities of hidden cells, averaged over the tokenizer's symmetries unless told otherwise."""
        return EncoderPredict(self.model, self.tokenizer.symmetries() if symmetries else ())

    def infill(
        self,
        records: Iterable[Any],
        *,
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        calibrated: bool = True,
        length_by: Literal["evidence", "head"] = "evidence",
        journal: Journal | None = None,
        **asked: Unpack[Asked],
    ) -> Iterator[FilledRecord]:
        """Fill every unknown cell of the records, and whatever else is `asked`: see `maskseq.filling.Asked`.

        Streams in the order of the records; those without holes come back unchanged. Known cells never change.
        Probabilities are calibrated, unless told otherwise, if the run is. Unknown lengths are told by evidence, or by
        the head that `fit_lengths` has fitted. What a `journal` has on record is not done
        again.
        """
        filler = Filler(
            tokenizer=self.fills,
            predict=self.predict_fills(symmetries=symmetries),
            context=self.model.config.max_positions,
            calibration=self.calibration(config, symmetries=symmetries) if calibrated else None,
            judge=length_judge(self.model, load_length_head(self.checkpoint)) if length_by == "head" else None,
        )
        return filler.fill(records, config, journal, **asked)

    def calibration(self, config: InfillConfig, *, symmetries: bool = True) -> Calibration | None:
        """The one that fills of this kind are given; warns where the run's was fitted on fills of another kind."""
        if self.fitted is None:
            return None
        if (self.fitted.order, self.fitted.symmetries) != (config.order, symmetries):
            warnings.warn(
                f"probabilities are not calibrated: the run's calibration is of the order {self.fitted.order!r}, "
                f"symmetries {'on' if self.fitted.symmetries else 'off'}",
                stacklevel=3,
            )
            return None
        return self.fitted.calibration

    def calibrate(
        self,
        records: Iterable[tuple[str, Encoded]],
        *,
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        cells: int = 10_000,
        data: str = "records",
        on_progress: Callable[[int, int | None], None] = lambda done, of: None,
    ) -> "Run":
        """Fit a calibration on about so many cells hidden in known records, and write it beside the checkpoint.

        `records` are keys and encoded records that the run was not trained on; `data` is what to call them. Returns the
        run with its calibration.
        """
        with locked(self.checkpoint, f"{self.checkpoint}: another process is calibrating it"):
            calibration = calibrate_on(
                self.predict_fills(symmetries=symmetries),
                records,
                config,
                tokenizer=self.fills,
                context=self.model.config.max_positions,
                cells=cells,
                on_progress=on_progress,
            )
            write_calibration(self.checkpoint, calibration, order=config.order, symmetries=symmetries, data=data)
        return replace(self)

    def fit_lengths(
        self,
        records: Iterable[tuple[str, Encoded]],
        *,
        most: int,
        gaps: int = 20_000,
        seed: int = 0,
        on_progress: Callable[[int, int | None], None] = lambda done, of: None,
    ) -> FittedHead:
        """Fit a head that tells how many positions are missing, up to `most`, and write it beside the checkpoint.

        It learns from about so many `gaps`, made in known records.
        """
        if self.fills is not self.tokenizer:
            raise UsageError("several tokens share each unit here: a length head counts tokens, not units")
        with locked(self.checkpoint, f"{self.checkpoint}: another process is fitting lengths for it"):
            fitted = fit_length_head(
                self.model, records, tokenizer=self.tokenizer, most=most, gaps=gaps, seed=seed, on_progress=on_progress
            )
            save_length_head(self.checkpoint, fitted)
        return fitted

    def score(
        self,
        records: Iterable[Any],
        *,
        stride: int | None = 8,
        symmetries: bool = True,
        calibrated: bool = True,
    ) -> Iterator[Score]:
        """Bits of every known cell given the others, streaming; see `maskseq.inference.score.score_records`.

        Calibrated as cells that are hidden alone, unless told otherwise, if the run is. Warns at the end where numbers
        lie outside the training range.
        """
        return score_records(
            self._scoring(symmetries, calibrated),
            ((name, encode(self.tokenizer, record)) for name, record in named(watched(records, self.tokenizer))),
            tokenizer=self.tokenizer,
            context=self.model.config.max_positions,
            stride=stride,
        )

    def score_variants(
        self,
        variants: Iterable[Listed[Any]],
        read: Callable[[], Iterable[Any]],
        *,
        symmetries: bool = True,
        calibrated: bool = True,
    ) -> Iterator[VariantScore]:
        """Log-likelihood ratios of variants of the records that `read()` streams; see `maskseq.inference.variants`.

        One score a variant, in their order; those that cannot be scored have the reason instead.
        Averaged over the tokenizer's symmetries, such as the two strands of DNA. One record is in memory at a time.
        """
        return score_variants(
            self._scoring(symmetries, calibrated),
            stretches(variants, Records(read), self.model.config.max_positions),
            tokenizer=self.tokenizer,
        )

    def _scoring(self, symmetries: bool, calibrated: bool) -> Predict:
        predict = self.predict(symmetries=symmetries)
        own = self.fills is self.tokenizer  # else the calibration is that of units
        return self.fitted.calibration.of_single_cells(predict) if calibrated and self.fitted and own else predict

    def embed(
        self, records: Iterable[Any], *, pooling: Pooling = "mean", symmetries: bool = True
    ) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
        """Keys and float32 vectors: one a record, or with pooling "none" one a position; streaming."""
        return embed_records(
            self.model,
            ((record.key, encode(self.tokenizer, record)) for record in records),
            pooling=pooling,
            symmetries=self.tokenizer.symmetries() if symmetries else (),
            context=self.model.config.max_positions,
        )


def _ending(name: str) -> str:
    """Of a file name, without that of a compressed file."""
    return Path(name.lower().removesuffix(".gz").removesuffix(".bgz")).suffix


def export_checkpoint(run: Run, output: Path, *, format: Literal["hf", "onnx"]) -> str:
    """Write a run's encoder for transformers or as ONNX; returns what was written."""
    with claimed(output, new=True, parents=True) as work:
        if format == "hf":
            told = export_hf(run.model, work.content, tokenizer=run.tokenizer)
            work.publish()
            return told
        work.content.mkdir()
        export_onnx(run.model, work.content / output.name)
        for path in work.content.iterdir():  # a large model comes with a file of its weights, which it names
            sync(path)
            path.replace(output.with_name(path.name))
    return "an ONNX model of one sequence of any length"
