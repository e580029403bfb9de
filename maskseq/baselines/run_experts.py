"""The experts of a run: which there are by its gate, counted on its corpus when they are first asked."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from maskseq.baselines.gating import BY_WINDOW, PARTS, count_experts
from maskseq.contract.own import is_own
from maskseq.corpus.reader import Corpus, Split
from maskseq.errors import MaskseqError, UsageError, nearest
from maskseq.predict.blend import ENCODER, Blend, Gate, Situations
from maskseq.predict.experts.counted import seasons
from maskseq.predict.experts.number_blend import FORM, NumberBlend
from maskseq.predict.experts.number_prior import by_window
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.gate_file import StoredGate
from maskseq.predict.protocol import Example, Predict
from maskseq.storage.standard_json import to_json
from maskseq.types import Vocabulary


class RunExperts:
    """What a run predicts with: its gate, and the experts that it weighs."""

    def __init__(
        self,
        stored: StoredGate | None,
        open_corpus: Callable[[], Corpus],
        vocabulary: Vocabulary,
        context: int,
        file: Sequence[Example] = (),
    ) -> None:
        """`open_corpus` opens the corpus that the experts are counted on, or raises a `MaskseqError`.

        `context` is the longest window that the experts are asked about, `file` what is known of the file at hand.
        """
        self.file = file
        self.stored, self.open_corpus, self.vocabulary, self.context = stored, open_corpus, vocabulary, context
        self.counted: dict[tuple[Split, ...], dict[str, Predict]] = {}

    def used(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The experts that have a say where these are requested; none: all of the gate. `UsageError` for others.

        Only the encoder where the run has no gate, or its corpus is gone and nobody asked for more.
        """
        names = tuple(dict.fromkeys(names))
        if names == (ENCODER,) or (self.stored is None and not names):
            return (ENCODER,)
        if self.stored is None:
            raise UsageError(
                f"the run has no gate, and so no expert {names[0]!r}: its encoder predicts alone\n\n"
                f"hint: `maskseq blend` fits a gate",
                code="not-supported",
            )
        for name in names:
            if name not in self.stored.experts:
                raise UsageError(
                    f"the run has no expert {name!r}\n\nhint: {nearest(name, self.stored.experts)}", code="unknown-name"
                )
        weights = self.stored.gate.weights.any(axis=0)
        found = tuple(names) or tuple(np.array(self.stored.experts)[weights].tolist())
        if found == (ENCODER,):
            return found
        if self._problem and ENCODER not in self.stored.experts:
            raise UsageError(
                f"{self._problem}\n\nhint: this run has no trained encoder that could do without it",
                code="missing-corpus",
            )
        if self._problem and names:
            raise UsageError(f"{self._problem}\n\nhint: --expert {ENCODER} does without it", code="missing-corpus")
        if self._problem:
            return (ENCODER,)
        return found

    def predict(self, encoder: Predict, names: Sequence[str] = (), parts: tuple[Split, ...] = PARTS) -> Predict:
        """The experts that are used as one; the encoder itself where it is the only one."""
        used = self.used(names)
        if used == (ENCODER,):
            return encoder
        assert self.stored is not None
        every = self.all(encoder, parts)
        experts = {name: every[name] for name in used}
        if len(used) == 1:
            return experts[used[0]]
        if None not in self.vocabulary.centres:
            return self._by_window(experts, parts)
        situations = Situations(tuple(every.values()), self.vocabulary)
        return Blend(experts, self._gate(used), self.vocabulary, situations)

    def _by_window(self, experts: Mapping[str, Predict], parts: tuple[Split, ...]) -> NumberBlend:
        """Of numbers, which drift: weights by each window's own known ones, and by cross-fitted errors in training."""
        corpus = self.open_corpus()
        data = training_data(corpus, parts)
        return by_window(
            experts, data, corpus.tokenizer, seasons(data.sequences, corpus.tokenizer), context=self.context
        )

    def shares(self, used: Sequence[str]) -> dict[str, float]:
        """Of experts that are used, the share of all weights, averaged over the classes of cells.

        Nothing where each window of numbers has weights of its own.
        """
        if self.stored is not None and self.stored.form == BY_WINDOW:
            return {}
        weights = self._gate(used).weights
        shares = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
        return dict(zip(used, shares, strict=True))

    def _gate(self, used: Sequence[str]) -> Gate:
        """What is left out hands its weight to what stays: an answer by some is as sharp as one by all."""
        assert self.stored is not None
        weights = self.stored.gate.weights
        kept = weights[:, [self.stored.experts.index(name) for name in used]]
        total = kept.sum(axis=1, keepdims=True)
        scaled = kept * weights.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)
        return Gate(np.where(total > 0, scaled, 1 / len(used)), self.stored.n_cells)

    def all(self, encoder: Predict, parts: tuple[Split, ...] = PARTS) -> dict[str, Predict]:
        """Every expert of the gate by its name."""
        assert self.stored is not None
        counted = self._count(parts)
        return {name: encoder if name == ENCODER else counted[name] for name in self.stored.experts}

    def digest(self, names: Sequence[str] = ()) -> str:
        """Of what decides the answers besides the checkpoint; "" where the encoder answers alone."""
        used = self.used(names)
        if used == (ENCODER,):
            return ""
        assert self.stored is not None
        decisive: list[object] = [self.stored.digest, used]
        if None not in self.vocabulary.centres:  # weighed by window
            decisive.append(FORM)
        return hashlib.sha256(to_json(decisive).encode()).hexdigest()

    @property
    def file_digest(self) -> str:
        """Of what is known of the file at hand."""
        found = hashlib.sha256()
        for each in self.file:
            found.update(f"{each.key}:{each.ids.shape}".encode())
            found.update(np.ascontiguousarray(each.ids).tobytes())
        return found.hexdigest()

    @cached_property
    def _problem(self) -> str:
        """Why the experts cannot be had, if they cannot; a warning says so, once."""
        assert self.stored is not None
        try:
            corpus = self.open_corpus()
            if corpus.fingerprint != self.stored.corpus:
                problem = f"{corpus.path} is not the corpus that the gate was fitted with"
            else:
                missing = set(self.stored.experts) - {ENCODER} - set(self._count(PARTS))
                n_classes = Blend(self.all(_nobody), None, self.vocabulary).situations.n if not missing else 0
                problem = f"this version has no expert {sorted(missing)[0]!r}" if missing else ""
                if n_classes and n_classes != len(self.stored.weights):
                    problem = f"the gate has {len(self.stored.weights)} classes, and its experts {n_classes}"
        except MaskseqError as error:
            problem = f"experts are counted on the run's corpus: {str(error).partition(chr(10))[0]}"
        if problem:
            warnings.warn(f"the encoder predicts alone: {problem}", stacklevel=2)
        return problem

    def _count(self, parts: tuple[Split, ...]) -> dict[str, Predict]:
        if parts not in self.counted:
            assert self.stored is not None
            own = [name for name in self.stored.experts if is_own(name)]
            self.counted[parts] = count_experts(self.open_corpus(), parts, self.file, own)
        return self.counted[parts]


def _nobody(examples: object, cells: object) -> list[np.ndarray]:
    return []
