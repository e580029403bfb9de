"""A trained run at work."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Calibrated,
    Dress,
    Experts,
    Fields,
    FormatName,
    Json,
    OnBroken,
    RunFolder,
    Symmetries,
    Trust,
    app,
    format_options,
)
from maskseq.infill.order import OrderName

if TYPE_CHECKING:
    from maskseq.corpus.intake import OnError
    from maskseq.scoring.variants import VariantScore
    from maskseq.trained import TrainedModel
    from maskseq.types import Encoded


@app.command()
def infill(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose holes are filled, in any format that is installed.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the filled file, the table fills.csv and report.html (default: FILE-filled).",
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask",
            metavar="KEY:START-END|KEY:T0:T1|FILE.bed",
            help="Hide these stretches as well (1-based, inclusive; a BED file; or two moments, in seconds or as the "
            "file writes them: KEY:T0..T1). What was known there is kept aside and scored against. Repeatable.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="KEY:START-END", help="As --mask, but nothing else is filled. Repeatable."),
    ] = None,
    unknown: Annotated[
        list[str] | None,
        typer.Option("--unknown", metavar="FIELD", help="Fill this field everywhere, whatever is there. Repeatable."),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(
            "--length",
            metavar="KEY:START-END=LO..HI",
            help="This stretch (a run of Ns) stands for LO to HI units: the most probable number is filled in. "
            "Repeatable.",
        ),
    ] = None,
    insert_missing: Annotated[
        int | None,
        typer.Option(
            "--insert-missing",
            metavar="MOST",
            help="Add events wherever evidence says that some are missing, up to so many between two.",
        ),
    ] = None,
    evidence: Annotated[
        float, typer.Option(help="Of --insert-missing: nats of evidence that it takes; 3 are odds of 20 to 1.")
    ] = 3.0,
    length_by: Annotated[
        Literal["evidence", "head"],
        typer.Option(help="What tells how much is missing: the model's evidence, or what fit-lengths has trained."),
    ] = "evidence",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME=VALUE[@KEY[:START-END]]",
            help="A rule that every fill keeps, such as motif=NNRYN@chr1:101-105, gc=0.4..0.6 or bounds=gap:0..3600. "
            "Repeatable.",
        ),
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="Your own function that accepts or refuses a filled record. What is refused is drawn again; a record "
            "without an accepted fill stays as it was, and is counted.",
        ),
    ] = None,
    accept_tries: Annotated[int, typer.Option(min=1, help="Of --accept: fills of a record that are judged.")] = 20,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    order: Annotated[
        str,
        typer.Option(
            help="Which cells are committed first, and how many at a time: "
            + ", ".join(get_args(OrderName))
            + ", or your own as module:name."
        ),
    ] = "entropy_bounded",
    temperature: Annotated[float, typer.Option(help="0: the most probable values; 1: draw from the model.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Fills to draw of each hole; the first one is written.")] = 1,
    beam: Annotated[
        int,
        typer.Option(help="With --order left_to_right: search for the most probable fill as a whole, this widely."),
    ] = 1,
    seed: Annotated[int, typer.Option(help="Key of everything that is drawn.")] = 0,
    fill_long_holes: Annotated[
        bool, typer.Option("--fill-long-holes", help="Also fill holes longer than half the context.")
    ] = False,
    numbers: Annotated[
        Literal["mean", "median", "bin"] | None,
        typer.Option(
            help="What numeric fields are given: the mean or median of what the model holds possible, or the centre of "
            "one bin (default: mean; bin where values are drawn, or tied by a rule)."
        ),
    ] = None,
    table: Annotated[Literal["csv", "parquet"], typer.Option(help="How the table of fills is written.")] = "csv",
    experts: Experts = None,
    calibration: Calibrated = True,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Fill the unknown stretches of a file and write it back in its own format; what is known stays as it is.

    Interrupted, the same command goes on where it stopped. docs/infilling.md says more of every option.
    """
    from maskseq.apps import infill as roundtrip
    from maskseq.infill.options import InfillOptions, Insertion
    from maskseq.infill.ranges import read_ranges
    from maskseq.infill.sampler import InfillConfig
    from maskseq.lengths.missing import read_lengths
    from maskseq.storage.outputs import derived
    from maskseq.trained import load

    with console.counting("filling", "cells") as counted:
        summary = roundtrip.infill_file(
            load(run, trust_code=trust_code),
            file,
            output=output or derived(file, "-filled"),
            options=InfillOptions(
                config=InfillConfig(order=order, temperature=temperature, samples=samples, beam=beam, seed=seed),
                ranges=read_ranges([*(mask or ()), *(region or ())]),
                only_ranges=bool(region),
                unknown=unknown or (),
                lengths=read_lengths(length or ()),
                length_by=length_by,
                insertion=None if insert_missing is None else Insertion(most=insert_missing, threshold=evidence),
                rules=rule or (),
                accept=accept,
                accept_tries=accept_tries,
                fill_long_holes=fill_long_holes,
                numbers=numbers,
                symmetries=symmetries,
                calibrated=calibration,
                experts=experts or (),
            ),
            format=format,
            format_options=format_options(overrides),
            on_error=on_error,
            table=table,
            on_progress=counted,
            on_warning=console.warn,
        )
    # The terminal has shown its warnings already.
    console.show(summary if as_json else {k: v for k, v in summary.items() if k != "warnings"}, as_json=as_json)


@app.command()
def calibrate(
    run: RunFolder,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A file of known data that the run was not trained on, or a corpus that holds some out (default: the "
            "run's)."
        ),
    ] = None,
    cells: Annotated[int, typer.Option(min=100, help="About how many known cells to hide and fill.")] = 10_000,
    order: Annotated[OrderName, typer.Option(help="The order of filling that it is for.")] = "entropy_bounded",
    seed: Annotated[int, typer.Option(help="Key of which cells are hidden.")] = 0,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    experts: Experts = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Make stated probabilities honest: of values said to be 80 % sure, 80 % are right.

    Hides stretches of known data, fills them, and fits how much to trust the model by the length of the hole, and for
    numbers the intervals. The calibration lies beside the checkpoint, whose model stays as it is; infill and score use
    it from then on. Errors and coverage are shown for data that were not fitted on.
    """
    from maskseq.calibration.stored import summary
    from maskseq.infill.sampler import InfillConfig
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    with console.counting("calibrating", "cells") as counted:
        loaded = loaded.calibrate(
            known_records(loaded, file, format, format_options(overrides), on_error),
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
def blend(
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
    seed: Annotated[int, typer.Option(help="Key of which cells are masked.")] = 0,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Weigh a run's encoder and what can be counted on its corpus: from then on, the blend of them predicts.

    Masks known data and fits how much each expert is worth by field and hole. The gate lies beside the checkpoint,
    whose model stays as it is; `pretrain` fits one by itself. A calibration that was fitted before is out of date then.
    """
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    options = format_options(overrides)
    records = None
    if data:
        records = [each for file in data for each in known_records(loaded, file, format, options, on_error)]
    with console.counting("fitting the blend", "cells") as counted:
        loaded = loaded.blend(
            records,
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
def fit_lengths(
    run: RunFolder,
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of known data, or a corpus that holds some out (default: the run's)."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="The most positions that may be missing in one place.")] = 8,
    gaps: Annotated[int, typer.Option(min=100, help="About how many gaps to learn from.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Key of which gaps are made.")] = 0,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Train a head that tells how much is missing between two neighbours, for infill's --length and --insert-missing.

    Takes stretches out of known data and learns to say, from the encoder's states at both ends, how long they were. It
    lies beside the checkpoint, whose model stays as it is.
    """
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    with console.counting("reading gaps", "gaps") as counted:
        fitted = loaded.fit_lengths(
            known_records(loaded, file, format, format_options(overrides), on_error),
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


@app.command()
def score(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are scored, or that the variants are of.")],
    per_position: Annotated[
        bool, typer.Option("--per-position", help="A line a position (an event, a base), not a record.")
    ] = False,
    variants: Annotated[
        Path | None,
        typer.Option(
            help="A VCF: how much likelier each variant is than what is there, log-likelihood ratios in nats; of "
            "insertions and deletions, how much likelier they make their flanks, in a column of their own."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .csv, .tsv, .jsonl or .parquet file (default: stdout).")
    ] = None,
    stride: Annotated[
        int, typer.Option(help="Hide every n-th position in one pass; larger is slower and exacter.")
    ] = 8,
    field: Fields = None,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    experts: Experts = None,
    calibration: Calibrated = True,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """How surprising each record is: bits per cell, every cell given the others.

    And where most: records and positions that surprise a model of normal data are anomalies. Tab-separated, or JSON
    lines.
    """
    from maskseq.contract.fence import check_variants, streamed
    from maskseq.corpus.intake import Intake
    from maskseq.errors import UsageError
    from maskseq.infill.options import InfillOptions
    from maskseq.plugins import variants_for
    from maskseq.scoring import surprise
    from maskseq.storage.outputs import require_apart
    from maskseq.storage.tabular import table_on_stdout, table_writer
    from maskseq.trained import load

    if output is not None:
        require_apart(output, file, variants)
    loaded = load(run, trust_code=trust_code)
    reader = loaded.reader(file, format, format_options(overrides))
    records = Intake(reader, file, on_error=on_error, tokenizer=loaded.tokenizer)
    names = [field.name for field in loaded.tokenizer.fields]
    if variants is not None and per_position:
        raise UsageError("either --variants or --per-position")
    if variants is not None and field:
        raise UsageError("--field is not for --variants, which score whole alleles\n\nhint: leave one of them out")
    if variants is not None:
        listed = variants_for(variants)
        check_variants(listed, loaded.tokenizer)
        columns = surprise.variant_columns(listed.columns)
        found = loaded.score_variants(
            streamed(listed, variants, "read", listed.read),
            lambda: iter(records),
            symmetries=symmetries,
            calibrated=calibration,
            experts=experts or (),
        )
        rows = _variant_rows(found, listed.columns)
    else:
        with Intake(reader, file, on_error=on_error, tokenizer=loaded.tokenizer, warns=False) as first:
            loaded = loaded.knowing(first, InfillOptions(experts=tuple(experts or ())))
        scores = loaded.score(
            records,
            stride=stride,
            fields=field or (),
            symmetries=symmetries,
            calibrated=calibration,
            experts=experts or (),
        )
        columns = surprise.position_columns(names) if per_position else surprise.RECORD_COLUMNS
        rows = (
            surprise.position_rows(each, names) if per_position else [surprise.record_row(each, names)]
            for each in scores
        )
    opened = table_on_stdout(columns, as_json=as_json) if output is None else table_writer(output, columns)
    with opened as sink, records:
        for some in rows:
            sink(some)
    if output is not None:
        console.show({"table": str(output), **records.summary}, as_json=as_json)


@app.command()
def embed(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are embedded.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .zarr folder, a .parquet file, or for few vectors an .npz file.")
    ],
    pooling: Annotated[
        Literal["mean", "max", "none"],
        typer.Option(help="How positions become one vector; none: a vector a position, with offsets of the records."),
    ] = "mean",
    layer: Annotated[
        int | None,
        typer.Option(help="Take the states behind this layer, 0: of the embeddings (default: behind the last norm)."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="Write this attribute of records beside them. Repeatable."),
    ] = None,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Vectors for the records of a file, or for each of their positions: the encoder's last hidden states.

    Holds one batch in memory, whatever the file. An interrupted command resumes when it is run again.
    """
    from maskseq.apps.embed import embed_file
    from maskseq.trained import load

    with console.counting("embedding", "records") as counted:
        summary = embed_file(
            load(run, trust_code=trust_code),
            file,
            output=output,
            pooling=pooling,
            layer=layer,
            keep=keep or (),
            format=format,
            options=format_options(overrides),
            on_error=on_error,
            symmetries=symmetries,
            on_progress=counted,
        )
    console.show(summary, as_json=as_json)


def _variant_rows(scores: "Iterable[VariantScore]", columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """A row for each variant, and a warning at the end where some have a reason instead of a score."""
    from maskseq.scoring.surprise import variant_row

    n = unscored = 0
    for score in scores:
        n += 1
        unscored += bool(score.reason)
        yield [variant_row(score, columns)]
    if unscored:
        console.warn(f"{unscored:,} of {n:,} variants have no score: the column reason says why")


def known_records(
    run: "TrainedModel", file: Path | None, format: str | None, options: dict[str, Any], on_error: "OnError"
) -> "Iterator[tuple[str, Encoded]]":
    """Keys and ids of known data: of a file, or of what a corpus (the run's by default) holds out for selection."""
    from maskseq.calibration.stored import held_out_records
    from maskseq.corpus.intake import Intake
    from maskseq.corpus.unfamiliar import encoded
    from maskseq.errors import MaskseqError, UsageError

    if file is not None and not file.is_dir():
        reader = run.reader(file, format, options)
        with Intake(reader, file, on_error=on_error, tokenizer=run.fills) as records:
            yield from ((record.key, ids) for record, ids in encoded(records, run.fills))
        return
    if run.fills is not run.tokenizer:
        raise UsageError("infill fills single units of these tokens, not tokens\n\nhint: name a file")
    try:
        corpus = run.corpus(file)
    except MaskseqError as error:
        problem = str(error).partition("\n\n")[0]
        raise UsageError(
            f"{problem}\n\nhint: name a file, or another corpus, of data that the run has not seen"
        ) from None
    yield from held_out_records(corpus)
