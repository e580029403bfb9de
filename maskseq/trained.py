"""A trained run at work: fill, score and embed records, and take the encoder elsewhere."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.contract.fence import encode
from maskseq.contract.own import is_own, look_up
from maskseq.contract.renamed import older_names
from maskseq.corpus.out_of_range import watched
from maskseq.errors import UsageError
from maskseq.formats import Names
from maskseq.infill.filling import FilledRecord, fill_as_requested, tasks
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions
from maskseq.interop.hub import fetched, is_address
from maskseq.lengths.head import length_judge, load_length_head
from maskseq.lengths.missing import Sizing, by_evidence
from maskseq.loaded.fitting import FittingRun
from maskseq.loaded.normal import as_read, usual_of
from maskseq.loaded.recipe import trained_on
from maskseq.model.checkpoint import find_checkpoint, read_model
from maskseq.plugins import Trust
from maskseq.predict.blend import ENCODER
from maskseq.predict.embed import Pooling, embed_records
from maskseq.predict.gate_file import read_gate
from maskseq.predict.protocol import Example
from maskseq.scoring.score import NOBODY, Score, score_records
from maskseq.scoring.usual import POSITIONS, Usual
from maskseq.scoring.variants import VariantScore, score_variants
from maskseq.tokenizer import Tokenizer
from maskseq.types import Progress
from maskseq.variants import Listed, Records, stretches

MOST_KNOWN = 1 << 24
"""Positions of a file that are looked at beforehand; of as many as `MOST_COUNTED`, what is known counts as well."""


def load(run: Path | str, *, trust_code: Trust = False, tokenizer: Tokenizer[Any] | None = None) -> "TrainedModel":
    """A run folder, or one of its checkpoints, ready to infill, score and embed.

    Of a run it is the best checkpoint by selection data, or the newest one where none was chosen; `checkpoint` of what
    is returned says which. Loading executes nothing that is not installed.

    Args:
        run: A run folder, a folder of its `checkpoints`, or `hf://organization/name` of one that was shared.
        trust_code: Which code that is not installed may be loaded, here and in whatever the run opens later, if the
            folder names some (default: none).
        tokenizer: An object that is here already, such as the one that the run was trained with: it needs no trust.

    Raises:
        UsageError: There is no such folder, it needs code that is not trusted, or the tokenizer is another one.
        DataError: A file of it is damaged, or was changed since the checkpoint was written.

    Example:
        >>> load("runs/that/is/not/there")
        Traceback (most recent call last):
        ...
        maskseq.errors.UsageError: runs/that/is/not/there: there is no such run folder
        <BLANKLINE>
        hint: `maskseq pretrain RECIPE --output runs/that/is/not/there` makes one
    """
    if is_address(run):
        run = fetched(str(run))
    if not Path(run).is_dir():
        raise UsageError(
            f"{run}: there is no such run folder\n\nhint: `maskseq pretrain RECIPE --output {run}` makes one",
            code="missing-file",
        )
    checkpoint = find_checkpoint(Path(run))
    model, own = read_model(checkpoint, trust_code=trust_code, known=tokenizer)
    trained_on(Path(run), checkpoint)  # a changed recipe is reported now
    look_up_experts(checkpoint, trust_code)
    return TrainedModel(Path(run), model, own, checkpoint, trust_code)


def look_up_experts(checkpoint: Path, trust_code: Trust) -> None:
    """Import the experts of the user's own that a run predicts with; `UsageError` names one that is not trusted."""
    with warnings.catch_warnings(action="ignore"):  # a broken gate is reported where it is used
        stored = read_gate(checkpoint)
    for name in filter(is_own, () if stored is None else stored.experts):
        look_up("expert", name, trust_code=trust_code)


@dataclass(frozen=True)
class TrainedModel(FittingRun):
    """A trained run: its encoder, its tokenizer, and the experts that it predicts with. `maskseq.load` makes it.

    `infill` fills holes, `score` says how surprising known cells are, `embed` makes vectors, `calibrate` and `blend`
    fit what is stored with the checkpoint, `predictor` is what all of them use.

    Args:
        path: The folder that was loaded.
        model: The encoder, a `torch.nn.Module`.
        tokenizer: What records are encoded with; `fills` is that of the cells that infill fills.
        checkpoint: Which of the run's checkpoints it is.
        trust_code: Which code that is not installed may be loaded for it.
        counted_on: The corpus that experts are counted on, where it is open already.
        known: What is known of the file at hand, which experts count as well; see `knowing`.
    """

    def __repr__(self) -> str:
        names = [field.name for field in self.tokenizer.fields]
        fields = ", ".join(names[:8]) + ", …" * (len(names) > 8)
        n, name = self.model.n_parameters, self.checkpoint.name
        return (
            f"TrainedModel({str(self.path)!r}, {name}, {n:,} parameters, {type(self.tokenizer).__name__} of {fields})"
        )

    def infill_frame(self, frame: Any, **given: Any) -> Any:
        """A data frame with its unknown cells filled; see `maskseq.apps.frames.infill_frame`."""
        return _of_apps("frames").infill_frame(self, frame, **given)

    def next_frame(self, frame: Any, **given: Any) -> Any:
        """What comes next in the sequences of a data frame; see `maskseq.apps.frames.next_frame`."""
        return _of_apps("frames").next_frame(self, frame, **given)

    def predict_frame(self, frame: Any, **given: Any) -> Any:
        """What a fine-tuned run predicts of a data frame; see `maskseq.apps.predict_labels.predict_frame`."""
        return _of_apps("predict_labels").predict_frame(self, frame, **given)

    def read_frame(self, frame: Any, **given: Any) -> list[Any]:
        """The records of a data frame, for `infill`, `score` and `embed`; see `maskseq.apps.frames.read_frame`."""
        found: list[Any] = _of_apps("frames").read_frame(self, frame, **given)
        return found

    def infill(
        self,
        records: Iterable[Any],
        options: InfillOptions | None = None,
        *,
        journal: Journal | None = None,
        **given: Any,
    ) -> Iterator[FilledRecord]:
        """Fill every unknown cell of the records, and whatever else is requested.

        Args:
            records: Records of the run's format; streamed, never all in memory.
            options: What to fill and how. Default: every unknown cell, the most probable values.
            journal: What it has on record is not done again.
            **given: The options one by one, as in `infill(records, ranges=…)`.

        Returns:
            One `FilledRecord` a record, in order; those without holes come back unchanged. Known cells never change.

        Raises:
            UsageError: An option is not known, or a stretch is not in the records.
        """
        options = options or InfillOptions.of(given)
        predictor = self.predictor(
            options.config, symmetries=options.symmetries, calibrated=options.calibrated, experts=options.experts
        )
        sizer = None
        if options.lengths or options.insertion:
            if options.length_by == "head":
                scorer = length_judge(self.model, load_length_head(self.checkpoint))
            else:
                scorer = by_evidence(predictor.single_cells, predictor.tokenizer)
            sizer = Sizing(scorer, predictor.tokenizer, predictor.context)
        return fill_as_requested(predictor, records, options, sizer=sizer, journal=journal)

    def knowing(self, records: Iterable[Any], options: InfillOptions | None = None) -> "TrainedModel":
        """The run whose experts count what is known in these records as well, up to about a million positions.

        A file drifts from the training data, and its other records show how. Each record is left out where it is asked
        about itself. Cells that `options` request are not known. The run itself where no expert would count.
        """
        options = options or InfillOptions()
        if options.lengths or options.insertion:
            return self
        vocabulary, requested = self.fills.vocabulary, tasks(records, options, self.fills, None)
        file = (Example(vocabulary.masked(each.encoded.ids, each.holes), key=each.key) for each in requested)
        return self.counting(file, options.experts)

    def counting(self, file: Iterable[Example], experts: Sequence[str] = ()) -> "TrainedModel":
        """The same of what is known in encoded records: their keys are those that they are asked about by."""
        if None not in self.fills.vocabulary.centres or self.experts.used(experts) == (ENCODER,):
            return self
        found, room = [], MOST_KNOWN
        for example in file:
            found.append(example)
            room -= len(example.ids)
            if room < 0:
                return self
        return replace(self, known=tuple(found))

    def score(
        self,
        records: Iterable[Any],
        *,
        stride: int | None = 8,
        fields: Sequence[str] = (),
        symmetries: bool = True,
        calibrated: bool = True,
        experts: Sequence[str] = (),
        usual: Usual | None = None,
        journal: Journal | None = None,
        on_progress: Progress = lambda done, of: None,
    ) -> Iterator[Score]:
        """Bits of every known cell given the others, streaming; see `maskseq.scoring.score.score_records`.

        Args:
            records: Records of the run's format.
            stride: One cell in so many is masked in a pass; None masks each alone, which is exact and slow.
            fields: Names of the fields whose cells are scored (default: all).
            symmetries: Average over the tokenizer's symmetries.
            calibrated: As cells that are masked alone, if the run has a calibration.
            experts: Which experts have a say (default: those of the run's gate).
            usual: What `usual` found, for scores that are compared with it (default: `tails` of one predictor only).
            journal: Where what is done is kept, and found again after a kill.
            on_progress: Is given how many positions are done.

        Returns:
            A `Score` for each record, in order: `bits` [positions, fields], NaN where nothing is scored. Warns at the
            end where numbers lie outside the training range.

        Raises:
            UsageError: A field or an expert that there is not.
            DataError: A record that cannot be encoded.
        """
        names, seen = Names(), watched(records, self.tokenizer)
        predict, others = self.judges(symmetries, calibrated, experts)
        return score_records(
            predict,
            ((names.next(record.key).text, ids) for record, ids in as_read(seen, self.tokenizer)),
            tokenizer=self.tokenizer,
            context=self.model.config.max_positions,
            stride=stride,
            fields=fields,
            others=others if usual else NOBODY,
            journal=journal,
            on_progress=on_progress,
        )

    def usual(
        self,
        *,
        stride: int | None = 8,
        fields: Sequence[str] = (),
        symmetries: bool = True,
        calibrated: bool = True,
        experts: Sequence[str] = (),
        positions: int = POSITIONS,
    ) -> Usual | None:
        """What normal records look like: how surprising their oddest cells are, field by field, and what is counted.

        Args:
            stride: These are as in `score`.
            fields: As in `score`.
            symmetries: As in `score`.
            calibrated: As in `score`.
            experts: As in `score`.
            positions: Of the corpus's selection data that are scored for it, about.

        Returns:
            What `Usual.parts` compares a score with; None, with a warning, if the corpus is gone or nothing is held out
            for selection.
        """
        return usual_of(
            self,
            stride=stride,
            fields=fields,
            symmetries=symmetries,
            calibrated=calibrated,
            experts=experts,
            positions=positions,
        )

    def score_variants(
        self,
        variants: Iterable[Listed[Any]],
        read: Callable[[], Iterable[Any]],
        *,
        symmetries: bool = True,
        calibrated: bool = True,
        experts: Sequence[str] = (),
    ) -> Iterator[VariantScore]:
        """Log-likelihood ratios of variants of the records that `read()` streams; see `maskseq.scoring.variants`.

        One score a variant, in their order; those that cannot be scored have the reason instead.
        Averaged over the tokenizer's symmetries, such as the two strands of DNA. One record is in memory at a time.
        """
        return score_variants(
            self._scoring(symmetries, calibrated, experts),
            stretches(variants, Records(read), self.model.config.max_positions),
            tokenizer=self.tokenizer,
        )

    def embed(
        self, records: Iterable[Any], *, pooling: Pooling = "mean", symmetries: bool = True, layer: int | None = None
    ) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
        """Keys and float32 vectors, streaming.

        Args:
            records: Records of the run's format.
            pooling: Over positions: "mean" or "max", or "none" for a vector of each position.
            symmetries: Average over the tokenizer's symmetries.
            layer: The layer whose states are taken, 0 for the embeddings (default: the last one, behind its norm).

        Returns:
            Pairs of a key and a vector [hidden], or with pooling "none" [positions, hidden].

        Raises:
            UsageError: A pooling or a layer that there is not.
            DataError: A record that cannot be encoded.
        """
        return embed_records(
            self.model,
            ((record.key, encode(self.tokenizer, record)) for record in records),
            pooling=pooling,
            symmetries=self.tokenizer.symmetries() if symmetries else (),
            context=self.model.config.max_positions,
            precision=self.precision,
            layer=layer,
        )


def _of_apps(name: str) -> Any:
    """A module of the layer above, which reads and writes files: looked up when a method is shorthand for it."""
    return import_module(f"maskseq.apps.{name}")


__getattr__ = older_names(
    __name__,
    {
        "Run": "maskseq.trained.TrainedModel",
        "BLEND": "maskseq.loaded.run.BLEND",
        "recipe_file": "maskseq.loaded.recipe.recipe_file",
        "export_checkpoint": "maskseq.apps.interchange.export_checkpoint",
    },
)
