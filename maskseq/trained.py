"""A trained run at work: fill, score and embed records, and take the encoder elsewhere."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError

from maskseq.baselines.gating import CELLS, PARTS, stored_gate
from maskseq.baselines.run_experts import RunExperts
from maskseq.calibration.stored import Fitted, read_calibration, write_calibration
from maskseq.contract.fence import encode
from maskseq.contract.identity import in_fields, saved_form
from maskseq.contract.own import is_own, look_up, named
from maskseq.contract.renamed import of_recipe, older_names, with_added
from maskseq.corpus.dress import NO_OPTIONS, TrainedOn, reader_for
from maskseq.corpus.frames import TABLE
from maskseq.corpus.out_of_range import watched
from maskseq.corpus.reader import Corpus, Split, holds_corpus
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import DataError, UsageError
from maskseq.evaluation.holdout import calibrate_on
from maskseq.formats import Format, Names
from maskseq.infill.filling import FilledRecord, fill_as_requested, tasks
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions
from maskseq.infill.sampler import InfillConfig
from maskseq.interop.convert import export_hf, export_onnx
from maskseq.lengths.head import FittedHead, fit_length_head, length_judge, load_length_head, save_length_head
from maskseq.lengths.missing import Sizing, by_evidence
from maskseq.masking.plan import MaskingConfig
from maskseq.model.checkpoint import find_checkpoint, read_json, read_model
from maskseq.model.encoder import Encoder
from maskseq.plugins import Trust, format_for
from maskseq.plugins import load as load_plugin
from maskseq.predict.blend import ENCODER
from maskseq.predict.calibrated import Calibration
from maskseq.predict.embed import Pooling, embed_records
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.gate_file import StoredGate, read_gate, write_gate
from maskseq.predict.predictor import Predictor
from maskseq.predict.protocol import Example, Predict, of_ids, with_ids
from maskseq.recipe import load_recipe
from maskseq.scoring.score import Score, score_records
from maskseq.scoring.variants import VariantScore, score_variants
from maskseq.storage.outputs import claimed, locked, sync
from maskseq.storage.places import Place
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.tasks.task_model import TaskModel, load_task
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress
from maskseq.variants import Listed, Records, stretches

MOST_KNOWN = 1 << 20
"""Positions of a file that experts count as well."""
BLEND = "blend"
"""What a run with a gate predicts with."""


def load(run: Path | str, *, trust_code: Trust = False, tokenizer: Tokenizer[Any] | None = None) -> "TrainedModel":
    """A run folder, or one of its checkpoints, ready to infill, score and embed.

    Of a run it is the best checkpoint by selection data, or the newest one where none was chosen; `checkpoint` of what
    is returned says which. Loading executes nothing that is not installed.

    Args:
        run: A run folder, or a folder of its `checkpoints`.
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
    if not Path(run).is_dir():
        raise UsageError(
            f"{run}: there is no such run folder\n\nhint: `maskseq pretrain RECIPE --output {run}` makes one"
        )
    checkpoint = find_checkpoint(Path(run))
    model, own = read_model(checkpoint, trust_code=trust_code, known=tokenizer)
    trained_on(Path(run), checkpoint)  # a changed recipe is reported now
    look_up_experts(checkpoint, trust_code)
    return TrainedModel(Path(run), model, own, checkpoint, trust_code)


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


def look_up_experts(checkpoint: Path, trust_code: Trust) -> None:
    """Import the experts of the user's own that a run predicts with; `UsageError` names one that is not trusted."""
    with warnings.catch_warnings(action="ignore"):  # a broken gate is reported where it is used
        stored = read_gate(checkpoint)
    for name in filter(is_own, () if stored is None else stored.experts):
        look_up("expert", name, trust_code=trust_code)


def recipe_file(run: Path, checkpoint: Path) -> Path | None:
    """Where the recipe of a run is; `DataError` if it was changed since the checkpoint was sealed with its own copy."""
    ours, sealed = RunFolder(run).recipe, CheckpointFolder(checkpoint).recipe
    if not sealed.exists():  # written before checkpoints had one
        return ours if ours.exists() else None
    if ours.exists() and ours.read_bytes() != sealed.read_bytes():
        raise DataError(
            ours, f"was changed since {checkpoint.name} was written, which has the recipe as it was: {sealed}"
        )
    return sealed


@dataclass(frozen=True)
class TrainedModel:
    """A trained run: its encoder, its tokenizer, and the experts beside them. `maskseq.load` makes it.

    `infill` fills holes, `score` says how surprising known cells are, `embed` makes vectors, `calibrate` and `blend`
    fit what lies beside the checkpoint, `predictor` is what all of them ask.

    Args:
        path: The folder that was loaded.
        model: The encoder, a `torch.nn.Module`.
        tokenizer: What records are encoded with; `fills` is that of the cells that infill fills.
        checkpoint: Which of the run's checkpoints it is.
        trust_code: Which code that is not installed may be loaded for it.
        counted_on: The corpus that experts are counted on, where it is open already.
        known: What is known of the file at hand, which experts count as well; see `knowing`.
    """

    path: Path
    model: Encoder
    tokenizer: Tokenizer[Any]
    checkpoint: Path
    """Which one of the run's."""
    trust_code: Trust = False
    """Which code that is not installed may be loaded for it: what `load` was given."""
    counted_on: Corpus | None = None
    """The corpus that experts are counted on, where it is open already."""
    known: tuple[Example, ...] = ()
    """What is known of the file at hand, which experts count as well; see `knowing`."""

    @cached_property
    def fitted(self) -> Fitted | None:
        """Its calibration, if there is one; `DataError` if that cannot be read."""
        return read_calibration(self.checkpoint)

    @property
    def task(self) -> TaskModel:
        """What it was fine-tuned for; `UsageError` if it was not."""
        return load_task(self.checkpoint, self.model, self.tokenizer, trust_code=self.trust_code)

    def reader(self, file: Path, name: str | None = None, options: Mapping[str, Any] = NO_OPTIONS) -> Format[Any]:
        """The format called `name`; by default that of the training files, if it reads this file (see `corpus.dress`).

        `options` take the place of those that the training files were read with.
        """
        data = trained_on(self.path, self.checkpoint)
        return reader_for(file, self.tokenizer, data, name, options, trust_code=self.trust_code)

    def frames_as(self, name: str | None = None) -> type[Format[Any]]:
        """The format that data frames are read with: the one called `name`, or that of the training files."""
        data = trained_on(self.path, self.checkpoint)
        if name is None and data.format is None and data.files:
            return type(format_for(Path(data.files[0])))
        trust = self.trust_code if name is None else True  # who names code in this call means it
        return load_plugin("formats", name or data.format or TABLE, trust_code=trust)

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

    def corpus(self, place: Place | None = None) -> Corpus:
        """The corpus that it was trained on, if it is still there, or another one whose tokens are the same.

        `UsageError` for one whose ids mean something else.
        """
        found = Corpus.open(place or RunFolder(self.path).corpus, trust_code=self.trust_code, known=self.tokenizer)
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

    @cached_property
    def experts(self) -> RunExperts:
        """What it predicts with besides its encoder, if it has a gate."""
        stored = read_gate(self.checkpoint)
        context = self.model.config.max_positions
        return RunExperts(stored, lambda: self._corpus_of(stored), self.fills.vocabulary, context, self.known)

    def _corpus_of(self, gate: StoredGate | None) -> Corpus:
        """The one that experts are counted on: open, in the run's folder, or where it lay when the gate was fitted."""
        if self.counted_on is not None:
            return self.counted_on
        runs = RunFolder(self.path), CheckpointFolder(self.checkpoint).run
        elsewhere: Place = gate.corpus_path if gate and gate.corpus_path else runs[0].corpus
        places = [*(each.corpus for each in runs), elsewhere]
        return self.corpus(next(filter(holds_corpus, places), places[0]))

    def predict_fills(
        self, *, symmetries: bool = True, experts: Sequence[str] = (), parts: tuple[Split, ...] = PARTS
    ) -> Predict:
        """The run as infill asks it, about cells of `fills`: the blend if it has a gate, or else its encoder.

        `experts` chooses some of them; `parts` are those of its corpus that they are counted on.
        """
        view = self.tokenizer.by_unit()
        plain = self.predict(symmetries=symmetries)
        encoder = plain if view is None else of_ids(view[1](with_ids(plain)))
        return self.experts.predict(encoder, experts, parts)

    def predict(self, *, symmetries: bool = True) -> EncoderPredict:
        """The encoder: log-probabilities of masked cells, averaged over the tokenizer's symmetries if wanted."""
        return EncoderPredict(self.model, self.tokenizer.symmetries() if symmetries else ())

    def predictors(
        self, experts: Sequence[str] = (), *, symmetries: bool = True, parts: tuple[Split, ...] = PARTS
    ) -> dict[str, Predict]:
        """By name: `BLEND`, which the run predicts with, `ENCODER`, and each expert of its gate.

        The encoder alone where it predicts alone. Answers are kept: asking all costs what asking each once does.
        `parts` are those of the corpus that experts are counted on.
        """
        encoder = Remembered(self.predict(symmetries=symmetries))
        if self.experts.used(experts) == (ENCODER,):
            return {ENCODER: encoder}
        found: dict[str, Predict] = {BLEND: self.experts.predict(encoder, experts, parts), ENCODER: encoder}
        return found | self.experts.all(encoder, parts)

    def predictor(
        self,
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        *,
        symmetries: bool = True,
        calibrated: bool = True,
        experts: Sequence[str] = (),
    ) -> Predictor:
        """The run as infill asks it, calibrated for fills as `config` makes them if the run has a calibration."""
        return Predictor(
            predict=self.predict_fills(symmetries=symmetries, experts=experts),
            tokenizer=self.fills,
            context=self.model.config.max_positions,
            calibration=self.calibration(config, symmetries=symmetries, experts=experts) if calibrated else None,
        )

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
        vocabulary, unsized = self.fills.vocabulary, options.lengths or options.insertion
        if None not in vocabulary.centres or unsized or self.experts.used(options.experts) == (ENCODER,):
            return self
        found, room = [], MOST_KNOWN
        for task in tasks(records, options, self.fills, None):
            found.append(Example(vocabulary.masked(task.encoded.ids, task.holes), key=task.key))
            room -= len(task.encoded)
            if room < 0:
                return self
        return replace(self, known=tuple(found))

    def calibration(
        self, config: InfillConfig, *, symmetries: bool = True, experts: Sequence[str] = ()
    ) -> Calibration | None:
        """The one that fills of this kind are given; warns where the run's was fitted on fills of another kind."""
        if self.fitted is None or not self._calibrates(experts):
            return None
        if (self.fitted.order, self.fitted.symmetries) != (config.order, symmetries):
            warnings.warn(
                f"probabilities are not calibrated: the run's calibration is of the order {self.fitted.order!r}, "
                f"symmetries {'on' if self.fitted.symmetries else 'off'}",
                stacklevel=3,
            )
            return None
        return self.fitted.calibration

    def _calibrates(self, experts: Sequence[str]) -> bool:
        """Whether its calibration was fitted on what these experts predict; warns if not."""
        assert self.fitted is not None
        if self.fitted.predictor == self.experts.digest(experts):
            return True
        warnings.warn(
            "probabilities are not calibrated: the run's calibration was fitted on another predictor than this one\n\n"
            "hint: `maskseq calibrate` fits one on what is used",
            stacklevel=4,
        )
        return False

    def calibrate(
        self,
        records: Iterable[tuple[str, Encoded]],
        *,
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        cells: int = 10_000,
        data: str = "records",
        experts: Sequence[str] = (),
        parts: tuple[Split, ...] = ("train",),
        on_progress: Progress = lambda done, of: None,
    ) -> "TrainedModel":
        """Fit a calibration on about so many cells hidden in known records, and write it beside the checkpoint.

        `records` are keys and encoded records that the run was not trained on; `data` is what to call them. `parts` are
        those of the corpus that experts are counted on meanwhile: none that the records are of. Returns the run with
        its calibration.
        """
        with locked(self.checkpoint, f"{self.checkpoint}: another process is calibrating it"):
            calibration = calibrate_on(
                self.predict_fills(symmetries=symmetries, experts=experts, parts=parts),
                records,
                config,
                tokenizer=self.fills,
                context=self.model.config.max_positions,
                cells=cells,
                on_progress=on_progress,
            )
            write_calibration(
                self.checkpoint,
                calibration,
                order=str(config.order),
                symmetries=symmetries,
                data=data,
                predictor=self.experts.digest(experts),
            )
        return replace(self)

    def blend(
        self,
        records: Iterable[tuple[str, Encoded]] | None = None,
        *,
        corpus: Corpus | None = None,
        cells: int = CELLS,
        encoder: bool = True,
        own: Sequence[str | Callable[..., Predict]] = (),
        data: str = "the selection data",
        seed: int = 0,
        on_progress: Progress = lambda done, of: None,
    ) -> "TrainedModel":
        """Fit a gate, which says how much the encoder and each counted expert is worth, and write it to the checkpoint.

        Args:
            records: Keys and encoded records that the run was not trained on. Default: what its corpus holds out for
                selection; without such data, all are worth the same.
            corpus: The one that experts are counted on. Default: the run's.
            cells: Masked cells that the gate is fitted on, about.
            encoder: Whether the encoder is one of the experts.
            own: Experts of your own, as `module:name` or as callables: (`TrainingData`, tokenizer) → `Predict`. A run
                that has some opens with `trust_code` only.
            data: What to call the records.
            seed: Keys which cells are masked.
            on_progress: Hears how many of the cells are answered.

        Returns:
            The run with its gate.
        """
        if self.fills is not self.tokenizer:
            raise UsageError("several tokens share each unit here: experts count tokens, and infill fills units")
        corpus = corpus or self._corpus_of(None)
        names = [each if isinstance(each, str) else named(each) for each in own]
        for name in names:
            look_up("expert", name, trust_code=True)  # who names it in this call means it
        stored = stored_gate(
            corpus,
            None if records is None else [(key, 0, each) for key, each in records],
            encoder=self.predict() if encoder else None,
            own=names,
            checkpoint=self.checkpoint,
            masking=self.masking,
            context=self.model.config.max_positions,
            n_cells=cells,
            data=data,
            seed=seed,
            on_progress=on_progress,
        )
        with locked(self.checkpoint, f"{self.checkpoint}: another process is writing its gate"):
            write_gate(self.checkpoint, replace(stored, corpus_path=_path_of(corpus, RunFolder(self.path))))
        return replace(self, counted_on=corpus)

    @property
    def masking(self) -> MaskingConfig:
        """How cells were masked in training; the default where no recipe says it."""
        file = recipe_file(self.path, self.checkpoint)
        saved = read_json(file).get("recipe") if file else None
        return load_recipe(with_added(saved)).masking.without_own if isinstance(saved, dict) else MaskingConfig()

    def fit_lengths(
        self,
        records: Iterable[tuple[str, Encoded]],
        *,
        most: int,
        gaps: int = 20_000,
        seed: int = 0,
        on_progress: Progress = lambda done, of: None,
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
        fields: Sequence[str] = (),
        symmetries: bool = True,
        calibrated: bool = True,
        experts: Sequence[str] = (),
    ) -> Iterator[Score]:
        """Bits of every known cell given the others, streaming; see `maskseq.scoring.score.score_records`.

        Args:
            records: Records of the run's format.
            stride: One cell in so many is masked in a pass; None masks each alone, which is exact and slow.
            fields: Names of the fields whose cells are scored (default: all).
            symmetries: Average over the tokenizer's symmetries.
            calibrated: As cells that are masked alone, if the run has a calibration.
            experts: Which experts have a say (default: those of the run's gate).

        Returns:
            A `Score` for each record, in order: `bits` [positions, fields], NaN where nothing is scored. Warns at the
            end where numbers lie outside the training range.

        Raises:
            UsageError: A field or an expert that there is not.
            DataError: A record that cannot be encoded.
        """
        names, seen = Names(), watched(records, self.tokenizer)
        return score_records(
            self._scoring(symmetries, calibrated, experts),
            ((names.next(record.key).text, ids) for record, ids in encoded(seen, self.tokenizer)),
            tokenizer=self.tokenizer,
            context=self.model.config.max_positions,
            stride=stride,
            fields=fields,
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

    def _scoring(self, symmetries: bool, calibrated: bool, experts: Sequence[str]) -> Predict:
        encoder = self.predict(symmetries=symmetries)
        if self.fills is not self.tokenizer:  # calibrations are those of units, as gates would be
            return encoder
        predict = self.experts.predict(encoder, experts)
        if not calibrated or self.fitted is None or not self._calibrates(experts):
            return predict
        return self.fitted.calibration.of_single_cells(predict)

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
            layer=layer,
        )


def _of_apps(name: str) -> Any:
    """A module of the layer above, which reads and writes files: looked up when a method is shorthand for it."""
    return import_module(f"maskseq.apps.{name}")


def _path_of(corpus: Corpus, run: RunFolder) -> str:
    """Where a corpus lies, unless it is the run's own."""
    if "://" in corpus.path:
        return corpus.path
    path = Path(corpus.path)
    return "" if path.resolve() == run.corpus.resolve() else str(path.resolve())


def export_checkpoint(run: TrainedModel, output: Path, *, format: Literal["hf", "onnx"]) -> str:
    """Write a run's encoder for transformers or as ONNX; returns what was written. Experts and the gate stay here."""
    with claimed(output, new=True, parents=True) as work:
        if format == "hf":
            reported = export_hf(run.model, work.content, tokenizer=run.tokenizer)
            work.publish()
            return reported
        work.content.mkdir()
        export_onnx(run.model, work.content / output.name)
        for path in work.content.iterdir():  # a large model comes with a file of its weights, which it names
            sync(path)
            path.replace(output.with_name(path.name))
    return "an ONNX model of one sequence of any length"


__getattr__ = older_names(__name__, {"Run": "maskseq.trained.TrainedModel"})
