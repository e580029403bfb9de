"""A run, or only what it would have to beat, on held-out data: one code path, the same masks for everybody."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq import plugins
from maskseq.apps.pretrain import prepare_corpus
from maskseq.baselines.baselines import FREQUENCIES, Baselines
from maskseq.calibration.stored import held_out_records
from maskseq.contract import renamed
from maskseq.corpus.dress import NO_OPTIONS, TrainedOn, reader_for
from maskseq.corpus.intake import Intake, OnError
from maskseq.corpus.out_of_range import watched
from maskseq.corpus.reader import SPLITS, Corpus, holds_corpus
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import UsageError
from maskseq.evaluation import figures as evaluate
from maskseq.evaluation import numbers as evaluate_numbers
from maskseq.evaluation.figures import Answers, ScoredCells
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.formats import most_alike
from maskseq.infill.order import OrderName
from maskseq.infill.ranges import read_ranges
from maskseq.infill.ranges import within as stretches
from maskseq.infill.sampler import InfillConfig
from maskseq.masking.plan import MaskingConfig
from maskseq.model.checkpoint import read_json
from maskseq.predict.experts.copies import Repeats
from maskseq.predict.experts.imputers import imputer
from maskseq.predict.protocol import Predict
from maskseq.recipe import load_recipe
from maskseq.storage.folder import file_digest
from maskseq.tokenizer import Tokenizer
from maskseq.trained import load, recipe_file, trained_on
from maskseq.types import Encoded, Progress, Stages

ROUNDS = 32
"""How often the same data may be asked, with other cells hidden, until there are enough."""
MODEL = "model"
COUNTING = "counting on training data"
COVARIANCES = "covariances"
"""The best linear prediction of numbers: what an encoder with `linear_prior` starts from."""
FLOOR = "rounding to bins"
"""Of numbers, the error that the bins alone make."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    protocols: tuple[str, ...] = ("masked",)
    """See `maskseq.evaluation.protocols.Protocol.parse`."""
    fields: tuple[str, ...] = ()
    """Ask for cells of these fields only (default: of all); what else a protocol hides stays hidden."""
    cells: int = 20_000
    """About how many cells of each protocol; drawn at random where there are more."""
    depth: int = 5
    """Neighbours on a side that tables look at, at most."""
    imputers: tuple[str, ...] = ("linear", "last")
    """Simple fills of numbers compared with (`maskseq.predict.experts.imputers`), and `COVARIANCES`. A run that starts
    from covariances is compared with them in any case."""
    every: bool = False
    """Judge beside all simple methods that suit the data, and mixtures of them: see `docs/baselines.md`."""
    periods: tuple[int, ...] = ()
    """Of seasons, in positions (default: one is looked for in training data)."""
    window: int | None = None
    """Positions that everybody sees at a time (default: as many as the model was trained with)."""
    stride: int | None = None
    """One window begins every so many positions, and each is whole (default: side by side, the last cut short)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cells < 1 or self.depth < 1 or not self.protocols:
            raise UsageError("an evaluation needs a protocol, and at least one cell and one neighbour")
        for name in self.protocols:
            Protocol.parse(name, MaskingConfig())
        for name in self.imputers:
            if name != COVARIANCES:
                imputer(name)
        if any(period < 1 for period in self.periods):
            raise UsageError(f"periods of {', '.join(map(str, self.periods))} positions: each must be 1 or more")
        if min(self.window or 1, self.stride or 1) < 1 or (self.window or 2) < 2:
            raise UsageError(f"windows of {self.window} positions, {self.stride} apart: there are none")


def evaluate_run(
    run: Path | str,
    data: Path | None = None,
    *,
    question: Question = Question(),
    within: Sequence[str] = (),
    corpus: Path | str | None = None,
    order: OrderName = "entropy_bounded",
    beam: int = 1,
    format: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    on_error: OnError = "stop",
    symmetries: bool = True,
    trust_code: bool = False,
    on_progress: Stages = lambda what, done, of: None,
) -> dict[str, Any]:
    """Judge a run on a file, on what the corpus `data` holds out, or on what its own corpus holds out.

    Of a corpus the test part is read; where it has none, the selection data, and the figures are labelled so.

    `within` are stretches of the file's records, as `maskseq.infill.ranges` reads them: nothing else of it is asked.
    Numbers are judged as they were read, or as the centres of their bins where a corpus does not have them. Baselines
    are counted on the training data of `corpus` (default: the run's own).
    """
    loaded = load(run, trust_code=trust_code)
    _check_fields(question, loaded.tokenizer)
    counted = loaded.corpus(corpus)
    recipe = recipe_file(loaded.path, loaded.checkpoint)
    saved = read_json(recipe).get("recipe") if recipe else None
    masking = load_recipe(renamed.with_added(saved)).masking if isinstance(saved, dict) else MaskingConfig()
    held_out = counted if data is None else loaded.corpus(data) if data.is_dir() else None
    intake = None
    if held_out is None and data is not None:
        reader = loaded.reader(data, format, options)
        intake = Intake(reader, data, on_error=on_error, tokenizer=loaded.tokenizer)
    records = _records(intake or held_out, loaded.tokenizer, within)
    on_progress(COUNTING, 0, None)
    distances = loaded.model.config.linear_prior.distances
    if distances and COVARIANCES not in question.imputers:
        question = replace(question, imputers=(*question.imputers, COVARIANCES))
    told = judge(
        question,
        records,
        _baselines(question, counted, loaded.tokenizer, data, held_out, on_progress, distances),
        context=question.window or loaded.model.config.max_positions,
        masking=masking,
        predict=loaded.predict(symmetries=symmetries),
        config=InfillConfig(order=order, beam=beam, seed=question.seed),
        on_progress=on_progress,
    )
    of = {"run": str(run), "data": _named(data, held_out, "the run's corpus"), "symmetries": symmetries}
    of |= intake.summary if intake else {}
    return {"of": of | ({"within": list(within)} if within else {}), **told}


def evaluate_baselines(
    source: Path | str,
    data: Path | None = None,
    *,
    question: Question = Question(),
    within: Sequence[str] = (),
    format: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    on_error: OnError = "stop",
    context: int = 1024,
    trust_code: bool = False,
    on_progress: Stages = lambda what, done, of: None,
) -> dict[str, Any]:
    """What a model has to beat on a corpus's test part, its selection data, or a file (or `within` it).

    `source` is the corpus, a run that has one, or a recipe, whose corpus is made for the moment if it names none.
    """
    with _corpus_of(Path(source), trust_code=trust_code, on_progress=on_progress) as counted:
        held_out: Corpus | None = counted
        if data is not None:
            held_out = Corpus.open(data, trust_code=trust_code, known=counted.tokenizer) if data.is_dir() else None
        _check_fields(question, counted.tokenizer)
        on_progress(COUNTING, 0, None)
        intake = None
        if held_out is None and data is not None:
            trained = _trained_on(Path(source), counted, trust_code)
            reader = reader_for(data, counted.tokenizer, trained, format, options, trust_code=trust_code)
            intake = Intake(reader, data, on_error=on_error, tokenizer=counted.tokenizer)
        records = _records(intake or held_out, counted.tokenizer, within)
        baselines = _baselines(question, counted, counted.tokenizer, data, held_out, on_progress)
        context = question.window or context
        told = judge(question, records, baselines, context=context, masking=MaskingConfig(), on_progress=on_progress)
    of = {"corpus": str(source), "data": _named(data, held_out, "the corpus")} | (intake.summary if intake else {})
    return {"of": of, **told}


@contextmanager
def _corpus_of(source: Path, *, trust_code: bool, on_progress: Stages) -> Iterator[Corpus]:
    """The corpus at a path, that of a run, or that of a recipe: built in a temporary folder if it names files."""
    if source.is_dir():
        recipe = recipe_file(source, source)
        elsewhere = read_json(recipe).get("recipe", {}).get("data", {}).get("corpus") if recipe else None
        places = [source, source / "corpus", *([elsewhere] if elsewhere else [])]
        yield Corpus.open(next(filter(holds_corpus, places), source), trust_code=trust_code)
    elif source.suffix == ".toml":
        with TemporaryDirectory() as folder:
            on_progress("building a corpus", 0, None)
            yield prepare_corpus(load_recipe(source), default=Path(folder) / "corpus")
    else:
        yield Corpus.open(source, trust_code=trust_code)


def _baselines(
    question: Question,
    corpus: Corpus,
    tokenizer: Tokenizer[Any],
    data: Path | None,
    held_out: Corpus | None,
    on_progress: Stages,
    distances: tuple[int, ...] = (),
) -> Baselines:
    """Counted on a corpus's training data; weights are fitted on its selection data or, where that is asked about, on
    blocks of its training data. Where both may be, as in a file that it was made of, nothing is fitted.
    """
    selection: Iterator[Encoded] | tuple[()] | None = () if held_out is not None else None
    if question.every and _is_other(data, held_out, corpus):
        selection = (each for _, each in corpus.each("selection", numbers=True))
    counted = [each for _, each in corpus.counted(numbers=question.every)]
    numbers = [each.numbers for each in counted if each.numbers is not None]
    baselines = Baselines(
        (each.ids for each in counted),
        tokenizer,
        question.depth,
        distances,
        every=question.every,
        selection=selection,
        periods=question.periods,
        numbers=numbers if len(numbers) == len(counted) else None,
    )
    for note in baselines.notes:
        on_progress(note, 0, None)
    return baselines


def _is_other(data: Path | None, held_out: Corpus | None, corpus: Corpus) -> bool:
    """Whether asked data cannot be the corpus's selection data: its test part, other files, another corpus."""
    if data is None or held_out is not None:
        return held_out is not None and (held_out.judged == "test" or held_out.fingerprint != corpus.fingerprint)
    test = SPLITS["test"]
    sources = [source for source in corpus.manifest.get("sources", ()) if source.get("part") != test]
    sizes = {source["bytes"] for source in sources}
    known = {source["sha256"] for source in sources}
    return data.stat().st_size not in sizes or file_digest(data) not in known


def _named(data: Path | None, held_out: Corpus | None, own: str) -> str:
    """What is asked about: a file, or the part of a corpus."""
    if held_out is None:
        return str(data)
    part = "test data" if held_out.judged == "test" else "selection data (there is no test part)"
    return f"{part} of {data or own}"


def _check_fields(question: Question, tokenizer: Tokenizer[Any]) -> None:
    names = [field.name for field in tokenizer.fields]
    for name in question.fields:
        if name not in names:
            raise UsageError(f"there is no field {name!r}\n\nhint: the fields are {most_alike(name, names)}")


def _records(
    asked: Intake | Corpus | None, tokenizer: Tokenizer[Any], within: Sequence[str]
) -> list[tuple[str, Encoded]]:
    """What is asked about: the records of a file, or what a corpus holds out."""
    if isinstance(asked, Intake):
        with asked:
            cut = encoded(watched(stretches(asked, read_ranges(within)), tokenizer), tokenizer)
            return [(each.key, ids) for each, ids in cut]
    assert asked is not None
    if within:
        raise UsageError("stretches are taken of the records of a file\n\nhint: name the file that they are of")
    return list(held_out_records(asked, asked.judged))


def _trained_on(source: Path, corpus: Corpus, trust_code: bool) -> TrainedOn:
    """What is known of the files that baselines are counted on: by a recipe, by a run, or by the corpus alone."""
    if source.suffix == ".toml":
        data = load_recipe(source).data
        return TrainedOn(str(source), data.files, data.format, data.format_options)
    if source.is_dir() and recipe_file(source, source):
        return trained_on(source, source)
    names = tuple(each["name"] for each in corpus.manifest.get("sources", ()))
    described = corpus.manifest.get("format")
    if described is None:
        return TrainedOn(str(corpus.path), names)
    cls = plugins.load("formats", described["name"], trust_code=trust_code)
    known = {each.name for each in fields(cls)} if is_dataclass(cls) else set()  # manifests have class variables, too
    options = {name: value for name, value in described["options"].items() if name in known}
    return TrainedOn(str(corpus.path), names, described["name"], options)


def judge(
    question: Question,
    records: Sequence[tuple[str, Encoded]],
    baselines: Baselines,
    *,
    context: int,
    masking: MaskingConfig,
    predict: Predict | None = None,
    config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
    on_progress: Stages = lambda what, done, of: None,
) -> dict[str, Any]:
    """All figures of every protocol, as JSON takes them.

    `records` are keys and ids that nobody was trained on, `predict` the model if there is one. Gaps of several
    positions are also filled jointly, as `config` says.
    """
    who: dict[str, Predict] = {**({} if predict is None else {MODEL: predict}), **baselines.predicts}
    told = {}
    for name in question.protocols:
        on_progress(f"{name}, drawing cells", 0, None)
        puzzles = draw(question, name, records, baselines.tokenizer, context=context, masking=masking)
        told[name] = _judge(name, question, puzzles, who, baselines, config, on_progress)
    asked = {"cells": question.cells, "seed": question.seed, "context": context, "neighbours": question.depth}
    return {
        "protocols": told,
        "asked": asked | ({"fields": list(question.fields)} if question.fields else {}),
        "infill": {"order": config.order, "temperature": config.temperature, "beam": config.beam},
    }


def draw(
    question: Question,
    protocol: str,
    records: Sequence[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    *,
    context: int,
    masking: MaskingConfig,
) -> list[MaskedExample]:
    """Puzzles with about as many cells as are wanted, in an order that `seed` decides."""
    found: list[MaskedExample] = []
    for round_ in range(ROUNDS):
        made = Protocol.parse(protocol, masking).puzzles(
            records,
            tokenizer,
            context=context,
            stride=question.stride,
            fields=question.fields,
            seed=question.seed * ROUNDS + round_,
        )
        new = list(made)
        order = np.random.default_rng((question.seed, round_)).permutation(len(new)).tolist()
        found += [new[i] for i in order]
        asked_all = protocol.startswith(("event", "gaps-"))
        if not new or asked_all or sum(len(puzzle.cells) for puzzle in found) >= question.cells:
            break
    if not found:
        raise UsageError(
            f"protocol {protocol}: no held-out sequence has room for it\n\nhint: choose a shorter gap, or hold out more"
        )
    ends = np.cumsum([len(puzzle.cells) for puzzle in found])
    return found[: int(np.searchsorted(ends, question.cells)) + 1]


def _judge(
    name: str,
    question: Question,
    puzzles: Sequence[MaskedExample],
    who: Mapping[str, Predict],
    baselines: Baselines,
    config: InfillConfig,
    on_progress: Stages,
) -> dict[str, Any]:
    tokenizer, vocabulary = baselines.tokenizer, baselines.tokenizer.vocabulary
    cells = ScoredCells.of(puzzles)

    def telling(what: str) -> Progress:
        on_progress(f"{name}, {what}", 0, None)
        return partial(on_progress, f"{name}, {what}")

    answers = {
        each: evaluate.ask(predict, puzzles, vocabulary, on_progress=telling(f"asking {each}"))
        for each, predict in who.items()
    }
    own = MODEL if MODEL in who else None
    told = evaluate.compare(cells, answers, model=own)
    told["puzzles"] = len(puzzles)
    if question.every and baselines.repeats is not None:
        told["outside exact repeats"] = _outside_repeats(puzzles, cells, answers, baselines.repeats, own)
    told["breakdown"] = evaluate.breakdown(cells, answers, vocabulary.names)
    told["reliability"] = {name: reliability(cells, each) for name, each in answers.items()}
    spreads = baselines.spreads()
    if any(vocabulary.centres[field] is not None for field in np.unique(cells.field)):
        means = {name: each.mean for name, each in answers.items()}
        for each in question.imputers:
            fill_in = baselines.covariances.fill if each == COVARIANCES else imputer(each)
            filled = evaluate_numbers.imputed(fill_in, puzzles, vocabulary)
            # Where a record shows no number to start from, whoever fills it says the training mean.
            means[each] = np.where(np.isnan(filled), means[FREQUENCIES], filled)
        means[FLOOR] = evaluate_numbers.rounded_numbers(cells, vocabulary)
        truth = evaluate_numbers.true_numbers(puzzles, vocabulary)
        told["errors"] = evaluate_numbers.ordinal_errors(cells, truth, means, vocabulary, spreads)
        told["errors of all fields"] = evaluate_numbers.compare_errors(
            cells, truth, means, spreads, model=own, floor=FLOOR
        )
        told["honesty"] = evaluate_numbers.ordinal_honesty(cells, answers, vocabulary)
    if name.startswith("gap") and None in vocabulary.centres:  # numbers are never exactly right
        told["whole gaps"] = _gaps(puzzles, who, baselines, config, telling)
    told["examples"] = [_example(puzzle, tokenizer) for puzzle in islice(puzzles, 3)]
    return told


def _outside_repeats(
    puzzles: Sequence[MaskedExample],
    cells: ScoredCells,
    answers: Mapping[str, Answers],
    repeats: Repeats,
    model: str | None,
) -> dict[str, Any]:
    """The same figures without the cells whose flanks stand around one place of training, of all cells their share."""
    inside = np.concatenate(repeats([puzzle.truth for puzzle in puzzles], [puzzle.cells for puzzle in puzzles]))
    told = {"flank": repeats.flank, "share left out": float(inside.mean())}
    if inside.all():
        return told
    kept = {name: each.at(~inside) for name, each in answers.items()}
    return told | evaluate.compare(cells.at(~inside), kept, model=model)


def _gaps(
    puzzles: Sequence[MaskedExample],
    who: Mapping[str, Predict],
    baselines: Baselines,
    config: InfillConfig,
    telling: Callable[[str], Progress],
) -> dict[str, Any]:
    """Gaps filled jointly by the model and by tables, and by the most frequent span, field by field."""
    tokenizer = baselines.tokenizer
    values = {
        name: evaluate.fill(
            who[name],
            puzzles,
            tokenizer.vocabulary,
            config,
            allowed=tokenizer.allowed,
            on_progress=telling(f"filling gaps by {name}"),
        )
        for name in (MODEL, *baselines.fillers)
        if name in who
    }
    telling("filling gaps by the most frequent span")
    told: dict[str, Any] = {}
    for field, name in enumerate(tokenizer.vocabulary.names):
        mine = [i for i, puzzle in enumerate(puzzles) if _has_gap(puzzle, field)]
        if not mine:
            continue
        asked = [puzzles[i] for i in mine]
        by = {each: [filled[i] for i in mine] for each, filled in values.items()}
        by["most frequent span"] = [_most_frequent(puzzle, field, baselines) for puzzle in asked]
        told[name] = evaluate.compare_gaps(asked, by, field, model=MODEL)
    return told


def _has_gap(puzzle: MaskedExample, field: int) -> bool:
    """Whether a part of a field is asked for; what is the same all along, such as a case's amount, is hidden whole."""
    return bool((puzzle.cells[:, 1] == field).any()) and not puzzle.hidden[:, field].all()


def _most_frequent(puzzle: MaskedExample, field: int, baselines: Baselines) -> Integer[np.ndarray, " cells"]:
    hidden = puzzle.hidden[:, field]
    table = baselines.span_table(field, int(hidden.sum()))
    written = puzzle.truth[:, field].copy()
    written[hidden] = table.fill(written, hidden)
    whole = puzzle.truth.copy()
    whole[:, field] = written
    return np.asarray(whole[tuple(puzzle.cells.T)])


def reliability(cells: ScoredCells, answers: Answers, bins: int = 10) -> list[dict[str, float]]:
    """Stated confidence and share of right answers, in bins of equal width."""
    right = answers.value == cells.truth
    which = np.minimum((answers.confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(answers.confidence[which == i].mean()),
            "right": float(right[which == i].mean()),
            "cells": int(np.count_nonzero(which == i)),
        }
        for i in range(bins)
        if (which == i).any()
    ]


def _example(puzzle: MaskedExample, tokenizer: Tokenizer[Any], width: int = 60) -> dict[str, Any]:
    """What stood around the first hidden cell, and what was seen of it, field by field."""
    first = max(int(puzzle.cells[0, 0]) - width // 2, 0)
    around = slice(first, first + width)
    return {
        "from": first + 1,
        "fields": {
            field.name: {
                "truth": [field.token(token) for token in puzzle.truth[around, column].tolist()],
                "hidden": puzzle.hidden[around, column].tolist(),
            }
            for column, field in enumerate(tokenizer.fields)
        },
    }
