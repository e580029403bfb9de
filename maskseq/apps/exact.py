"""The chain-rule likelihood of the records of a file, by whatever a run can give it with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from maskseq.apps.generate import OPEN, asks_encoder
from maskseq.corpus.out_of_range import watched
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import UsageError
from maskseq.formats import Names
from maskseq.predict.blend import ENCODER
from maskseq.scoring.exact import exact_by_prefixes, exact_scores
from maskseq.scoring.score import Score
from maskseq.trained import TrainedModel


def exact_scores_of(run: TrainedModel, records: Iterable[Any], *, fields: Sequence[str] = ()) -> Iterator[Score]:
    """In one pass where the encoder has a head of what comes next, else in one for each cell.

    `UsageError` where it has neither that nor seen open sequences: it would take every prefix for a whole sequence.
    """
    if not asks_encoder(run):
        stored = run.experts.stored
        untrained = stored is not None and ENCODER not in stored.experts
        problem = "it has no trained encoder" if untrained else "it saw every sequence with its end"
        hint = "train one: maskseq pretrain without --experts-only" if untrained else OPEN
        raise UsageError(f"{run.path} cannot say what comes next: {problem}\n\nhint: {hint}", code="not-supported")
    names, seen = Names(), encoded(watched(records, run.tokenizer), run.tokenizer)
    known = ((names.next(record.key).text, ids) for record, ids in seen)
    given: dict[str, Any] = {
        "tokenizer": run.tokenizer,
        "context": run.model.config.max_positions,
        "fields": fields,
    }
    if run.model.next_head is not None:
        return exact_scores(run.model, known, precision=run.precision, **given)
    return exact_by_prefixes(run.predict(), known, **given)
