"""A trained run at work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from maskseq import console
from maskseq.cli.app import FormatName, Json, RunFolder, Symmetries, Trust, app
from maskseq.inference.order import OrderName


@app.command()
def infill(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose holes are filled, in any format that is installed.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the filled file, fills.csv and report.html (default: FILE-filled)."
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask",
            metavar="KEY:START-END|FILE.bed",
            help="Hide these stretches as well (1-based, inclusive; or a BED file). What was known there is kept aside "
            "and scored against. Repeatable.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME=VALUE[@KEY[:START-END]]",
            help="A rule that every fill keeps, such as motif=NNRYN@chr1:101-105, gc=0.4..0.6 or bounds=gap:0..3600. "
            "Repeatable.",
        ),
    ] = None,
    format: FormatName = None,
    order: Annotated[OrderName, typer.Option(help="Which cells are committed first, and how many at a time.")] = (
        "entropy_bounded"
    ),
    temperature: Annotated[float, typer.Option(help="0: the most probable values; 1: draw from the model.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Fills to draw of each hole; the first one is written.")] = 1,
    seed: Annotated[int, typer.Option(help="Key of everything that is drawn.")] = 0,
    fill_long_holes: Annotated[
        bool, typer.Option("--fill-long-holes", help="Also fill holes longer than half the context.")
    ] = False,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Fill the unknown stretches of a file and write it back in its own format; what is known stays as it is."""
    from maskseq import roundtrip
    from maskseq.inference.infill import InfillConfig
    from maskseq.ranges import read_ranges
    from maskseq.run import load

    with console.counting("filling", "cells") as counted:
        summary = roundtrip.infill_file(
            load(run, trust_code=trust_code),
            file,
            output=output or file.with_name(f"{file.name.split('.')[0]}-filled"),
            ranges=read_ranges(mask or ()),
            rules=rule or (),
            format=format,
            config=InfillConfig(order=order, temperature=temperature, samples=samples, seed=seed),
            fill_long_holes=fill_long_holes,
            symmetries=symmetries,
            on_progress=counted,
            on_warning=console.warn,
        )
    console.show(summary, as_json=as_json)


@app.command()
def score(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are scored.")],
    per_position: Annotated[bool, typer.Option("--per-position", help="A line a position, not a record.")] = False,
    stride: Annotated[
        int, typer.Option(help="Hide every n-th position in one pass; larger is slower and exacter.")
    ] = 8,
    format: FormatName = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """How surprising each record is: bits per cell, every cell given the others. Tab-separated, or JSON lines."""
    from maskseq.plugins import format_for
    from maskseq.run import load

    loaded = load(run, trust_code=trust_code)
    names = [field.name for field in loaded.tokenizer.fields]
    console.line(["key", "position", *names] if per_position else ["key", "cells", "bits"], as_json=as_json)
    for each in loaded.score(format_for(file, format).read(file), stride=stride, symmetries=symmetries):
        if per_position:
            for position, bits in enumerate(each.bits.tolist(), start=1):
                console.line([each.key, position, *bits], as_json=as_json)
        else:
            console.line([each.key, each.n_cells, each.mean_bits], as_json=as_json)


@app.command()
def embed(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are embedded.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="An .npz file: keys, vectors.")],
    pooling: Annotated[Literal["mean", "max"], typer.Option(help="How positions become one vector.")] = "mean",
    format: FormatName = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
) -> None:
    """A vector for each record: the encoder's last hidden states, pooled."""
    from maskseq.plugins import format_for
    from maskseq.run import load, write_vectors

    loaded = load(run, trust_code=trust_code)
    vectors = loaded.embed(format_for(file, format).read(file), pooling=pooling, symmetries=symmetries)
    console.talk.print(f"wrote {write_vectors(vectors, output):,} vectors to {output}")
