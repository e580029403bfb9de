"""What a run says about a file: how surprising its records are, and vectors of them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Calibrated,
    Experts,
    Fields,
    Json,
    Layer,
    RunFolder,
    Symmetries,
    TableFile,
    Trust,
    app,
    reads_a_file,
)

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs
    from maskseq.corpus.intake import Intake
    from maskseq.scoring.variants import VariantScore
    from maskseq.trained import TrainedModel

STRIDE = 8


@app.command()
@reads_a_file
def score(
    read_as: "ReadAs",
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
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="The likelihood by the chain rule, each event given those before it, in place of all this."
        ),
    ] = False,
    output: TableFile = None,
    stride: Annotated[
        int, typer.Option(help="Mask every n-th position in one pass; larger is slower and exacter.")
    ] = STRIDE,
    field: Fields = None,
    experts: Experts = None,
    calibration: Calibrated = True,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """How odd each record is, and where: anomalies are what surprises a model of normal data.

    The column odd comes first: the oddest cell against what is usual for its field, and transitions against those of
    training; 1 is as usual, 3 is an anomaly. Then bits per cell, every cell given the others. Tab-separated, or JSON
    lines.
    """
    from maskseq.apps.score import score_file
    from maskseq.errors import UsageError
    from maskseq.storage.outputs import require_apart
    from maskseq.trained import load

    if output is not None:
        require_apart(output, file, variants)
    loaded = load(run, trust_code=trust_code)
    records = loaded.intake(file, read_as)
    if variants is not None and per_position:
        raise UsageError("either --variants or --per-position", code="bad-option")
    if variants is not None and exact:
        raise UsageError("either --variants or --exact", code="bad-option")
    unused = {
        "--expert": bool(experts),
        "--stride": stride != STRIDE,
        "--no-calibration": not calibration,
        "--no-symmetries": not symmetries,
    }
    if exact and any(unused.values()):
        names = " and ".join(name for name, given in unused.items() if given)
        raise UsageError(f"{names} has no meaning with --exact\n\nhint: leave it out", code="bad-option")
    if variants is not None and field:
        raise UsageError(
            "--field is not for --variants, which score whole alleles\n\nhint: leave one of them out", code="bad-option"
        )
    given: dict[str, Any] = {"symmetries": symmetries, "calibrated": calibration, "experts": tuple(experts or ())}
    if variants is not None:
        _score_variants(loaded, records, variants, output, as_json=as_json, **given)
    elif exact:
        _score_exactly(loaded, records, output, per_position=per_position, fields=field or (), as_json=as_json)
    else:
        given |= {"stride": stride, "fields": tuple(field or ())}
        with console.counting("scoring", "positions") as counted:
            score_file(
                loaded,
                records,
                output=output,
                per_position=per_position,
                as_json=as_json,
                on_progress=counted,
                **given,
            )
    if output is not None:
        console.show({"table": str(output), **records.summary}, as_json=as_json)


@app.command()
@reads_a_file
def embed(
    read_as: "ReadAs",
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are embedded.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .zarr folder, a .parquet file, or for few vectors an .npz file.")
    ],
    pooling: Annotated[
        Literal["mean", "max", "none"],
        typer.Option(help="How positions become one vector; none: a vector a position, with offsets of the records."),
    ] = "mean",
    layer: Layer = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="Write this attribute of records along with them. Repeatable."),
    ] = None,
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
            read_as=read_as,
            symmetries=symmetries,
            on_progress=counted,
        )
    console.show(summary, as_json=as_json)


def _score_exactly(
    loaded: "TrainedModel",
    records: "Intake",
    output: Path | None,
    *,
    per_position: bool,
    fields: Sequence[str],
    as_json: bool,
) -> None:
    from maskseq.apps.exact import exact_scores_of
    from maskseq.scoring import surprise
    from maskseq.storage.tabular import table_on_stdout, table_writer

    names = [each.name for each in loaded.tokenizer.fields]
    columns = surprise.position_columns(names) if per_position else surprise.EXACT_COLUMNS
    opened = table_on_stdout(columns, as_json=as_json) if output is None else table_writer(output, columns)
    with opened as sink, records:
        for each in exact_scores_of(loaded, records, fields=fields):
            sink(surprise.position_rows(each, names) if per_position else [surprise.exact_row(each, names)])


def _score_variants(
    loaded: "TrainedModel",
    records: "Intake",
    variants: Path,
    output: Path | None,
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """A line for each variant of a file's records."""
    from maskseq.contract.fence import check_variants, streamed
    from maskseq.plugins import variants_for
    from maskseq.scoring import surprise
    from maskseq.storage.tabular import table_on_stdout, table_writer

    listed = variants_for(variants)
    check_variants(listed, loaded.tokenizer)
    columns = surprise.variant_columns(listed.columns)
    found = loaded.score_variants(streamed(listed, variants, "read", listed.read), lambda: iter(records), **given)
    opened = table_on_stdout(columns, as_json=as_json) if output is None else table_writer(output, columns)
    with opened as sink, records:
        for some in _variant_rows(found, listed.columns):
            sink(some)


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
