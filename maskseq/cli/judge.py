"""What a run is worth, compared with what it has to beat."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Experts,
    Fields,
    Json,
    Key,
    Order,
    RunFolder,
    Symmetries,
    Trust,
    app,
    made_of,
    reads_a_file,
)
from maskseq.errors import UsageError

if TYPE_CHECKING:
    from maskseq.comparison.question import Question
    from maskseq.corpus.dress import ReadAs

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="masked (as in training), isolated (one position in 64), event (each position, all its fields), gap-K "
        "(K positions on end, one gap a sequence), gaps-K (the same, every place), block-K (K steps of each field), "
        "field-K (K steps of one field, the others known), point-P (P per cent of the cells), next, suffix-K, "
        "forecast-K, or remaining (the time until the end of cases). Repeatable (default: "
        "masked, isolated and gap-5, or a shorter gap where sequences are short).",
    ),
]
Imputers = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        help="For numbers, also: linear, last, mean, spline, neighbours, iterative, covariances, seasonal-N or "
        "mixed-N; or your own, for any field, as module:name. Repeatable.",
    ),
]
Cells = Annotated[int, typer.Option(min=1, help="About how many cells of each protocol.")]
Neighbours = Annotated[int, typer.Option(min=1, help="Neighbours on a side that context tables look at, at most.")]
Within = Annotated[
    list[str] | None,
    typer.Option("--within", help="Score this stretch of the file only, KEY:START-END or two moments. Repeatable."),
]
Window = Annotated[
    int | None, typer.Option(min=2, help="Positions that all methods see at a time (default: the model's context).")
]
Stride = Annotated[
    int | None, typer.Option(min=1, help="One window every so many positions, each whole (default: side by side).")
]
Every = Annotated[
    bool,
    typer.Option(
        "--all/--few", help="Compare with all simple methods that suit the data, or with a few that cost nothing."
    ),
]
Period = Annotated[
    list[int] | None, typer.Option(min=1, help="Positions of a season. Repeatable (default: one is looked for).")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for evaluation.json and evaluation.html.")]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE|COLUMN",
        help="Which records of DATA are abnormal: a CSV of key and label, or an attribute of the records. How well "
        "each column of `score` tells them apart is reported instead.",
    ),
]
Abnormal = Annotated[
    str | None, typer.Option(help="With --labels: the label of abnormal records (default: 1, true, …).")
]


def _question(
    protocol: Protocols = None,
    baseline: Imputers = None,
    field: Fields = None,
    cells: Cells = 6_000,
    window: Window = None,
    stride: Stride = None,
    neighbours: Neighbours = 5,
    every: Every = True,
    period: Period = None,
    seed: Key = 0,
) -> "Question":
    from maskseq.comparison.question import Question

    return Question(
        protocols=tuple(protocol or ()),
        imputers=tuple(name for name in baseline or ("linear", "last") if ":" not in name),
        own=tuple(name for name in baseline or () if ":" in name),
        fields=tuple(field or ()),
        cells=cells,
        depth=neighbours,
        window=window,
        stride=stride,
        seed=seed,
        every=every,
        periods=tuple(period or ()),
    )


asks_a_question = made_of("question", _question)


@app.command()
@reads_a_file
@asks_a_question
def evaluate(
    read_as: "ReadAs",
    question: "Question",
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A file that the run was not trained on, or a corpus, whose test part is read (default: the run's)."
        ),
    ] = None,
    within: Within = None,
    labels: Labels = None,
    abnormal: Abnormal = None,
    order: Order = "entropy_bounded",
    beam: Annotated[
        int, typer.Option(min=1, help="With left_to_right: keep so many partial fills, for the most probable whole.")
    ] = 1,
    output: Output = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus whose training data baselines are counted on (default: the run's).")
    ] = None,
    experts: Experts = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Is a run better than counting? On test data, against all simple methods, by the same masks.

    Field by field: single cells and whole gaps, the gain over the best simple method with its 95 % interval, and the
    verdict: better than, no better than or worse than. The headline is the worst field's.

    Of a corpus without a test part the selection data are read, and the figures say so. Also bits, accuracy,
    calibration, and errors in physical units of all methods.
    """
    from maskseq.apps.evaluate import evaluate_run
    from maskseq.reports.evaluation import evaluation_writer

    if labels is not None:
        given: dict[str, Any] = {"read_as": read_as, "experts": experts or (), "symmetries": symmetries}
        given |= {"fields": question.fields, "stride": question.stride or 8, "seed": question.seed}
        _tell_apart(run, data, labels, abnormal, given, output, trust_code=trust_code, as_json=as_json)
        return
    if abnormal is not None:
        raise UsageError(
            "--abnormal goes with --labels\n\nhint: --labels names the file or the column of labels", code="bad-option"
        )
    with evaluation_writer(output, data) as write, console.stages("cells") as counted:
        found = evaluate_run(
            run,
            data,
            question=question,
            within=within or (),
            corpus=corpus,
            order=order,
            beam=beam,
            read_as=read_as,
            experts=experts or (),
            symmetries=symmetries,
            trust_code=trust_code,
            on_progress=counted,
        ).to_json()
        write(found)
    _show(found, output, as_json=as_json)


@app.command()
@reads_a_file
@asks_a_question
def baseline(
    read_as: "ReadAs",
    question: "Question",
    source: Annotated[
        Path, typer.Argument(help="A recipe, a corpus or a run, whose training data baselines are counted on.")
    ],
    data: Annotated[Path | None, typer.Argument(help="A file of other data (default: what is held out).")] = None,
    within: Within = None,
    context: Annotated[int, typer.Option(min=8, help="Longest window that masked examples are cut from.")] = 1024,
    output: Output = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """What a model has to beat: all that can be counted on its training data, from tables to Gaussians."""
    from maskseq.apps.evaluate import evaluate_baselines
    from maskseq.reports.evaluation import evaluation_writer

    with evaluation_writer(output, data) as write, console.stages("cells") as counted:
        found = evaluate_baselines(
            source,
            data,
            question=question,
            within=within or (),
            read_as=read_as,
            context=context,
            trust_code=trust_code,
            on_progress=counted,
        ).to_json()
        write(found)
    _show(found, output, as_json=as_json)


def _tell_apart(
    run: Path,
    data: Path | None,
    labels: str,
    abnormal: str | None,
    given: dict[str, Any],
    output: Path | None,
    *,
    trust_code: Any,
    as_json: bool,
) -> None:
    from maskseq.apps.anomalies import evaluate_anomalies
    from maskseq.trained import load

    if data is None or data.is_dir():
        raise UsageError(
            "--labels are of the records of a file\n\nhint: name the file behind the run", code="bad-option"
        )
    if output is not None:
        raise UsageError(
            "--labels writes no pages\n\nhint: leave out --output; --json has all figures", code="bad-option"
        )
    found = evaluate_anomalies(load(run, trust_code=trust_code), data, labels, abnormal=abnormal, **given)
    if as_json:
        console.show(found, as_json=True)
        return
    for text in found["warnings"]:
        console.warn(text)
    console.say(
        f"{'score':28} {'AUROC':>7} {'95 %':>16} {'AP':>7} {'false alarms at 95, 99 % recall':>32} {'best F1':>8}"
    )
    for name, each in found["scores"].items():
        low, high = each["AUROC, 95 %"]
        alarms = "  ".join(f"{value:.3f}" for key, value in each.items() if key.startswith("false alarms"))
        interval = f"{low:.4f}–{high:.4f}"
        area, precision, f1 = each["AUROC"], each["average precision"], each["best F1"]
        console.say(f"{name:28} {area:7.4f} {interval:>16} {precision:7.4f} {alarms:>32} {f1:8.4f}")
    console.say(
        f"{found['records']:,} records, {found['prevalence']:.2%} abnormal: calling all abnormal has an F1 of "
        f"{found['F1 of calling all abnormal']:.4f}; the best F1 takes the threshold from these records"
    )


def _show(found: dict[str, Any], output: Path | None, *, as_json: bool) -> None:
    from maskseq.reports.evaluation import brief, brief_errors, brief_fields, brief_gaps, brief_remaining

    if as_json:
        console.show(found, as_json=True)
        return
    for protocol, figures in found["protocols"].items():
        console.say(brief(protocol, figures))
        if figures.get("whole gaps"):
            console.say(brief_gaps(protocol, figures["whole gaps"], found.get("product")))
        if "errors of all fields" in figures:
            console.say(brief_errors(protocol, figures["errors of all fields"]))
    if "remaining time" in found:
        console.say(brief_remaining(found["remaining time"]))
    console.say(brief_fields(found))  # what matters most is read last on a terminal, and first on the page
    console.say(f"scored: {found['of']['data']}")
    if "verdict" in found:
        console.say(found["verdict"]["in words"])
    if output is not None:
        console.say(f"wrote {output / 'evaluation.json'} and {output / 'evaluation.html'}")
