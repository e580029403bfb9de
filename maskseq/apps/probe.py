"""A run, a file and its labels in; how well scikit-learn's models predict them from frozen vectors out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.predict.embed import embed_records
from maskseq.tasks.config import Kind, LabelSource, TaskConfig, TaskData
from maskseq.tasks.examples import labelled_examples
from maskseq.tasks.figures import Figure
from maskseq.tasks.probe import check_probes, probe_vectors
from maskseq.tasks.simple import require_sklearn
from maskseq.trained import TrainedModel
from maskseq.types import Encoded, Progress


def probe_file(
    run: TrainedModel,
    file: Path,
    *,
    labels: LabelSource,
    kind: Kind = "multiclass",
    layer: int | None = None,
    models: Sequence[str] = ("linear", "forest", "knn"),
    folds: int = 5,
    group: str | None = None,
    simple: bool = True,
    symmetries: bool = True,
    seed: int = 0,
    read_as: ReadAs = AS_TRAINED,
    on_progress: Progress = lambda done, of: None,
) -> dict[str, dict[str, Figure]]:
    """Figures by the name of the model; records that share `group`, or are copies, stand in one fold."""
    require_sklearn()
    check_probes(models)
    config = TaskConfig(
        kind=kind, data=TaskData(files=(str(file),), group=group, on_error=read_as.on_error), labels=labels, seed=seed
    )
    context = run.model.config.max_positions
    with run.intake(file, read_as) as records:
        examples = labelled_examples(config, {"train": records}, run.tokenizer, context)["train"]
    vectors = []
    views = run.tokenizer.symmetries() if symmetries else ()
    keyed = ((each.key, Encoded(each.ids, numbers=each.numbers)) for each in examples)
    for _, vector in embed_records(run.model, keyed, symmetries=views, context=context, layer=layer):
        vectors.append(vector)
        on_progress(len(vectors), len(examples))
    return probe_vectors(
        config, run.tokenizer.vocabulary, examples, np.stack(vectors), models=models, folds=folds, simple=simple
    )
