"""What is fitted and stored with a checkpoint: calibration, gate and length head."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Experts,
    Json,
    Key,
    KnownData,
    Order,
    RunFolder,
    Symmetries,
    Trust,
    app,
    reads_a_file,
)

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs
    from maskseq.trained import TrainedModel
    from maskseq.types import Encoded


@app.command()
@reads_a_file
def calibrate(
    read_as: "ReadAs",
    run: RunFolder,
    file: KnownData = None,
    cells: Annotated[int, typer.Option(min=100, help="About how many known cells to mask and fill.")] = 10_000,
    order: Order = "entropy_bounded",
    seed: Key = 0,
    experts: Experts = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Calibrate probabilities: of values that are stated to be 80 % sure, 80 % are right.

    Masks stretches of known data, fills them, and fits how much to trust the model by the length of the hole, and for
    numbers the intervals. The calibration lies beside the checkpoint, whose model stays as it is; infill and score use
    it from then on. Errors and coverage are shown for data that were not fitted on.
    """
    from maskseq.calibration.stored import summary
    from maskseq.infill.sampler import InfillConfig
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    with console.counting("calibrating", "cells") as counted:
        loaded = loaded.calibrate(
            known_records(loaded, file, read_as),
            config=InfillConfig(order=order, seed=seed),
            symmetries=symmetries,
            cells=cells,
            data="the selection data" if file is None else file.name,
            experts=experts or (),
            on_progress=counted,
        )
    assert loaded.fitted is not None
    console.show(summary(loaded.fitted, loaded.fills.fields), as_json=as_json)


@app.command()
@reads_a_file
def blend(
    read_as: "ReadAs",
    run: RunFolder,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="A file of known data that the run was not trained on. Repeatable (default: what the run's corpus "
            "holds out for selection).",
        ),
    ] = None,
    cells: Annotated[int, typer.Option(min=100, help="About how many known cells to mask.")] = 6000,
    corpus: Annotated[
        Path | None, typer.Option(help="The corpus that the run was trained on, if it lies elsewhere.")
    ] = None,
    seed: Key = 0,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Weigh a run's encoder and what can be counted on its corpus: from then on, the blend of them predicts.

    Masks known data and fits how much each expert is worth by field and hole. The gate lies beside the checkpoint,
    whose model stays as it is; `pretrain` fits one by itself. A calibration that was fitted before is out of date then.
    """
    from maskseq.contract.own import is_own
    from maskseq.predict.blend import ENCODER
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    records = None
    if data:
        records = [each for file in data for each in known_records(loaded, file, read_as)]
    before = loaded.experts.stored
    with console.counting("fitting the blend", "cells") as counted:
        loaded = loaded.blend(
            records,
            own=() if before is None else tuple(filter(is_own, before.experts)),
            encoder=before is None or ENCODER in before.experts,
            corpus=loaded.corpus(corpus) if corpus else None,
            cells=cells,
            data=", ".join(file.name for file in data) if data else "the selection data",
            seed=seed,
            on_progress=counted,
        )
    stored = loaded.experts.stored
    assert stored is not None
    if not as_json:
        console.say(stored.reported())
    console.show(
        {"form": stored.form, "shares": loaded.experts.shares(stored.experts), "bits": stored.bits}, as_json=as_json
    )


@app.command()
@reads_a_file
def fit_lengths(
    read_as: "ReadAs",
    run: RunFolder,
    file: KnownData = None,
    most: Annotated[int, typer.Option(min=1, help="The most positions that may be missing in one place.")] = 8,
    gaps: Annotated[int, typer.Option(min=100, help="About how many gaps to learn from.")] = 20_000,
    seed: Key = 0,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Train a head that predicts how much is missing between two neighbours.

    infill's --length and --insert-missing use it.

    Takes stretches out of known data and learns to say, from the encoder's states at both ends, how long they were. It
    lies beside the checkpoint, whose model stays as it is.
    """
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    with console.counting("reading gaps", "gaps") as counted:
        fitted = loaded.fit_lengths(
            known_records(loaded, file, read_as),
            most=most,
            gaps=gaps,
            seed=seed,
            on_progress=counted,
        )
    reported = {
        "right": fitted.accuracy,
        "right by guessing": 1 / (most + 1),
        "nats": fitted.nats,
        "nats by guessing": math.log(most + 1),
    }
    console.show({f"lengths 0 to {most}, on other records": reported}, as_json=as_json)


def known_records(run: "TrainedModel", file: Path | None, read_as: "ReadAs") -> "Iterator[tuple[str, Encoded]]":
    """Keys and ids of known data: of a file, or of what a corpus (the run's by default) holds out for selection."""
    from maskseq.calibration.stored import held_out_records
    from maskseq.corpus.unfamiliar import encoded
    from maskseq.errors import MaskseqError, UsageError

    if file is not None and not file.is_dir():
        with run.intake(file, read_as, tokenizer=run.fills) as records:
            yield from ((record.key, ids) for record, ids in encoded(records, run.fills))
        return
    if run.fills is not run.tokenizer:
        raise UsageError(
            "infill fills single units of these tokens, not tokens\n\nhint: name a file", code="not-supported"
        )
    try:
        corpus = run.corpus(file)
    except MaskseqError as error:
        problem = str(error).partition("\n\n")[0]
        raise UsageError(
            f"{problem}\n\nhint: name a file, or another corpus, of data that the run has not seen",
            code="bad-option",
        ) from None
    yield from held_out_records(corpus)
