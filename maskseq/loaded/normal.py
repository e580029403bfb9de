"""What is normal to a run: its selection data, scored as a file is, while experts are counted on the training part."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from maskseq.calibration.stored import held_out_records
from maskseq.contract.fence import numbers_of
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import MaskseqError
from maskseq.loaded.run import LoadedRun
from maskseq.scoring.detectors import detectors
from maskseq.scoring.score import score_records
from maskseq.scoring.usual import Usual, normal_records
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded


def usual_of(
    run: LoadedRun,
    *,
    stride: int | None,
    fields: Sequence[str],
    symmetries: bool,
    calibrated: bool,
    experts: Sequence[str],
    positions: int,
) -> Usual | None:
    """See `maskseq.trained.TrainedModel.usual`; None, with a warning, where nothing is known to be normal."""
    context, vocabulary = run.model.config.max_positions, run.tokenizer.vocabulary
    try:
        corpus = run.corpus_of_experts()
        normal = list(normal_records(held_out_records(corpus), context, positions))
    except MaskseqError as error:
        problem = str(error).partition("\n\n")[0]
        warnings.warn(f"nothing says how odd is usual, so that the column odd is empty: {problem}", stacklevel=3)
        return None
    predict, others = run.judges(symmetries, calibrated, experts, ("train",))
    scores = score_records(
        predict, normal, tokenizer=run.tokenizer, context=context, stride=stride, fields=fields, others=others
    )
    return Usual.of(scores, vocabulary.names, detectors(corpus.training_ids(), vocabulary, fields))


def as_read(records: Iterable[Any], tokenizer: Tokenizer[Any]) -> Iterator[tuple[Any, Encoded]]:
    """Records and their ids, where all fields are numbers with these as they were read."""
    ordinal = None not in tokenizer.vocabulary.centres
    for record, ids in encoded(records, tokenizer):
        yield record, replace(ids, numbers=numbers_of(tokenizer, record)) if ordinal else ids
