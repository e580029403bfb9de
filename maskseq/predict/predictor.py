"""A trained model as infill asks it: made once, so that nobody passes its parts along."""

from dataclasses import dataclass
from typing import Any

from maskseq.contract.brief import brief
from maskseq.predict.calibrated import Calibration
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer


@brief
@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A distribution over cells, and what its cells are."""

    predict: Predict
    tokenizer: Tokenizer[Any]
    """The fill tokenizer, whose cells are asked for: that of raw units where several tokens share each."""
    context: int
    """The longest stretch, in its positions, that the model was trained on."""
    calibration: Calibration | None = None
    """What makes the probabilities of fills honest, if there is one."""

    @property
    def single_cells(self) -> Predict:
        """The distribution, calibrated as that of cells that are masked alone."""
        return self.predict if self.calibration is None else self.calibration.of_single_cells(self.predict)
