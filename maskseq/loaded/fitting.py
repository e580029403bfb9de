"""What is fitted on data that a run was not trained on, and written into the folder of its checkpoint."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from maskseq.baselines.gating import CELLS, stored_gate
from maskseq.calibration.stored import write_calibration
from maskseq.contract.own import look_up, named
from maskseq.corpus.reader import Corpus, Split
from maskseq.errors import UsageError
from maskseq.evaluation.holdout import calibrate_on
from maskseq.infill.sampler import InfillConfig
from maskseq.lengths.head import FittedHead, fit_length_head, save_length_head
from maskseq.loaded.run import LoadedRun
from maskseq.predict.gate_file import write_gate
from maskseq.predict.protocol import Predict
from maskseq.storage.outputs import locked
from maskseq.storage.run_folder import RunFolder
from maskseq.types import Encoded, Progress

F = TypeVar("F", bound="FittingRun")  # not typing.Self, which the shape checks of the tests cannot read


@dataclass(frozen=True)
class FittingRun(LoadedRun):
    """A run that is calibrated, given a gate and a length head."""

    def calibrate(
        self: F,
        records: Iterable[tuple[str, Encoded]],
        *,
        config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
        symmetries: bool = True,
        cells: int = 10_000,
        data: str = "records",
        experts: Sequence[str] = (),
        parts: tuple[Split, ...] = ("train",),
        on_progress: Progress = lambda done, of: None,
    ) -> F:
        """Fit a calibration on about so many cells masked in known records, and write it beside the checkpoint.

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
        self: F,
        records: Iterable[tuple[str, Encoded]] | None = None,
        *,
        corpus: Corpus | None = None,
        cells: int = CELLS,
        encoder: bool = True,
        own: Sequence[str | Callable[..., Predict]] = (),
        data: str = "the selection data",
        seed: int = 0,
        on_progress: Progress = lambda done, of: None,
    ) -> F:
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
            raise UsageError(
                "several tokens share each unit here: experts count tokens, and infill fills units",
                code="not-supported",
            )
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
            write_gate(self.checkpoint, replace(stored, corpus_path=_path_of(corpus, self.folders)))
        return replace(self, counted_on=corpus)

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
            raise UsageError(
                "several tokens share each unit here: a length head counts tokens, not units", code="not-supported"
            )
        with locked(self.checkpoint, f"{self.checkpoint}: another process is fitting lengths for it"):
            fitted = fit_length_head(
                self.model, records, tokenizer=self.tokenizer, most=most, gaps=gaps, seed=seed, on_progress=on_progress
            )
            save_length_head(self.checkpoint, fitted)
        return fitted


def _path_of(corpus: Corpus, runs: Iterable[RunFolder]) -> str:
    """Where a corpus lies; "" if it is the run's own, so that it is found wherever the run is moved to."""
    if "://" in corpus.path:
        return corpus.path
    path = Path(corpus.path).resolve()
    return "" if path in [run.corpus.resolve() for run in runs] else str(path)
