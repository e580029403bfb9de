"""Fill the holes of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Calibrated,
    Experts,
    Json,
    Key,
    Order,
    RunFolder,
    Symmetries,
    Trust,
    app,
    reads_a_file,
)

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs


@app.command()
@reads_a_file
def infill(
    read_as: "ReadAs",
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
            metavar="KEY:START-END|KEY:T0:T1|KEY:FIELD=A-B|FILE.bed",
            help="Hide these stretches as well (1-based, inclusive; a BED file; or two moments, in seconds or as the "
            "file writes them: KEY:T0..T1; or where given fields have these values: KEY:row=2-4,column=1-3). What "
            "was known there is kept aside and scored against. Repeatable.",
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
        typer.Option(help="How lengths are estimated: by the model's evidence, or by what fit-lengths has trained."),
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
    order: Order = "entropy_bounded",
    temperature: Annotated[float, typer.Option(help="0: the most probable values; 1: draw from the model.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Fills to draw of each hole; the first one is written.")] = 1,
    beam: Annotated[
        int,
        typer.Option(help="With --order left_to_right: search for the most probable fill as a whole, this widely."),
    ] = 1,
    seed: Key = 0,
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
            read_as=read_as,
            table=table,
            on_progress=counted,
            on_warning=console.warn,
        )
    # The terminal has shown its warnings already.
    console.show(summary if as_json else {k: v for k, v in summary.items() if k != "warnings"}, as_json=as_json)
