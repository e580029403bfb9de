"""A run that was opened: its encoder, tokenizer, corpus and experts, and what they predict with."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from maskseq import plugins
from maskseq.baselines.gating import PARTS
from maskseq.baselines.run_experts import RunExperts
from maskseq.calibration.stored import Fitted, read_calibration
from maskseq.contract.identity import in_fields, saved_form
from maskseq.corpus.dress import AS_TRAINED, NO_OPTIONS, ReadAs, reader_for
from maskseq.corpus.frames import TABLE
from maskseq.corpus.intake import Intake
from maskseq.corpus.reader import Corpus, Split, holds_corpus
from maskseq.errors import UsageError
from maskseq.formats import Format
from maskseq.generate.rolled_out import RolledOut
from maskseq.infill.sampler import InfillConfig
from maskseq.loaded.recipe import masking_of, trained_on
from maskseq.masking.config import MaskingConfig
from maskseq.model.checkpoint import read_json
from maskseq.model.encoder import Encoder
from maskseq.plugins import Trust
from maskseq.predict.around import NumberEncoderPredict
from maskseq.predict.blend import ENCODER
from maskseq.predict.calibrated import Calibration
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.experts.counted import CROSS_FIELD
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.gate_file import StoredGate, read_gate
from maskseq.predict.next import NextPredict
from maskseq.predict.predictor import Predictor
from maskseq.predict.protocol import Example, Predict, PredictNumbers, of_ids, with_ids
from maskseq.storage.places import Place
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.tasks.task_model import TaskModel, load_task
from maskseq.tokenizer import Tokenizer
from maskseq.training.device import choose_precision

BLEND = "blend"
"""What a run with a gate predicts with."""


@dataclass(frozen=True)
class LoadedRun:
    """A run folder that was opened, as a predictor: what `TrainedModel` works with."""

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
    def folders(self) -> tuple[RunFolder, RunFolder]:
        """Where its corpus may lie: the folder that was loaded, and the run that its checkpoint is of."""
        return RunFolder(self.path), CheckpointFolder(self.checkpoint).run

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

    def intake(self, file: Path, read_as: ReadAs = AS_TRAINED, *, tokenizer: Tokenizer[Any] | None = None) -> Intake:
        """The records of a file, of which those that the tokenizer (default: its own) cannot encode are broken, too."""
        reader = self.reader(file, read_as.format, read_as.options)
        return Intake(reader, file, on_error=read_as.on_error, tokenizer=tokenizer or self.tokenizer)

    def frames_as(self, name: str | None = None) -> type[Format[Any]]:
        """The format that data frames are read with: the one called `name`, or that of the training files."""
        data = trained_on(self.path, self.checkpoint)
        if name is None and data.format is None and data.files:
            return type(plugins.format_for(Path(data.files[0])))
        trust = self.trust_code if name is None else True  # who names code in this call means it
        return plugins.load("formats", name or data.format or TABLE, trust_code=trust)

    def corpus(self, place: Place | None = None) -> Corpus:
        """The corpus that it was trained on, if it is still there, or another one whose tokens are the same.

        `UsageError` for one whose ids mean something else.
        """
        found = Corpus.open(place or RunFolder(self.path).corpus, trust_code=self.trust_code, known=self.tokenizer)
        if other := in_fields(saved_form(found.tokenizer), self.tokenizer):
            raise UsageError(
                f"{found.path} was not tokenized as {self.path} needs it: its ids mean other values ({other})\n\n"
                f"hint: build one with `maskseq tokenize` and the recipe of the run",
                code="other-tokenizer",
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
        """The one that experts are counted on: open, in the run's folder, or where it lay when the gate was fitted.

        If none of them is that of the gate, the first one.
        """
        if self.counted_on is not None:
            return self.counted_on
        places: list[Place] = [*dict.fromkeys(each.corpus for each in self.folders)]
        if gate and gate.corpus_path:
            places.append(gate.corpus_path)
        there = list(filter(holds_corpus, places)) or places[:1]
        corpora = (self.corpus(place) for place in there)
        fits = (corpus for corpus in corpora if gate is None or corpus.fingerprint == gate.corpus)
        return next(fits, None) or self.corpus(there[0])

    def corpus_of_experts(self) -> Corpus:
        """The one that experts are counted on; `UsageError` if it is gone."""
        return self._corpus_of(self.experts.stored)

    @property
    def masking(self) -> MaskingConfig:
        """How cells were masked in training; the default where no recipe says it."""
        return masking_of(self.path, self.checkpoint)

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

    def predict(self, *, symmetries: bool = True, precision: Literal["bf16", "fp32"] = "fp32") -> Predict:
        """The encoder: log-probabilities of masked cells, averaged over the tokenizer's symmetries if wanted."""
        if self.model.embeddings.reference is not None:
            if symmetries and self.tokenizer.symmetries():
                raise UsageError(
                    f"the encoder of {self.path} has a reference, whose densities are not averaged over symmetries of "
                    f"the tokenizer\n\nhint: predict without them (`--no-symmetries`, `symmetries=False`)",
                    code="not-supported",
                )
            return NumberEncoderPredict(self.model, precision=precision)
        return EncoderPredict(self.model, self.tokenizer.symmetries() if symmetries else (), precision=precision)

    def predict_next(self, *, symmetries: bool = True) -> Predict:
        """The encoder as it is asked about open sequences: by its head of what comes next, if it has one."""
        if self.model.next_head is None:
            return self.predict(symmetries=symmetries)
        return RolledOut(NextPredict(self.model), self.tokenizer.vocabulary)

    @cached_property
    def precision(self) -> Literal["bf16", "fp32"]:
        """Of `score` and `embed`, which pass over whole files: that of the training, where bf16 is fast here."""
        layout = CheckpointFolder(self.checkpoint).layout
        trained_in = read_json(layout).get("precision") if layout.exists() else None
        device = next(self.model.parameters()).device
        return "bf16" if trained_in == "bf16" and choose_precision("auto", device) == "bf16" else "fp32"

    def predictors(
        self, experts: Sequence[str] = (), *, symmetries: bool = True, parts: tuple[Split, ...] = PARTS
    ) -> dict[str, Predict]:
        """By name: `BLEND`, which the run predicts with, `ENCODER`, and each expert of its gate.

        The encoder alone where it predicts alone. Answers are kept, so that asking all costs what asking each does;
        those of encoders that state numbers are not. `parts` are those of the corpus that experts are counted on.
        """
        plain = self.predict(symmetries=symmetries)
        encoder: Predict = plain if isinstance(plain, PredictNumbers) else Remembered(plain)
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

    def _scoring(
        self,
        symmetries: bool,
        calibrated: bool,
        experts: Sequence[str],
        parts: tuple[Split, ...] = PARTS,
        encoder: Predict | None = None,
    ) -> Predict:
        encoder = encoder or self.predict(symmetries=symmetries, precision=self.precision)
        if self.fills is not self.tokenizer:  # calibrations are those of units, as gates would be
            return encoder
        predict = self.experts.predict(encoder, experts, parts)
        if not calibrated or self.fitted is None or not self._calibrates(experts):
            return predict
        return self.fitted.calibration.of_single_cells(predict)

    def judges(
        self, symmetries: bool, calibrated: bool, experts: Sequence[str], parts: tuple[Split, ...] = PARTS
    ) -> tuple[Predict, dict[str, Predict]]:
        """What scores, and by name the expert of it that sees nothing but the other fields of the same event."""
        encoder = self.predict(symmetries=symmetries, precision=self.precision)
        predict = self._scoring(symmetries, calibrated, experts, parts, encoder)
        if self.fills is not self.tokenizer or CROSS_FIELD not in self.experts.used(experts):
            return predict, {}
        return predict, {CROSS_FIELD: self.experts.all(encoder, parts)[CROSS_FIELD]}
