"""A run, or only what it would have to beat, on held-out data: which records are scored, and what is counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskseq import plugins
from maskseq.apps.generate import open_predictors
from maskseq.apps.prepare import prepare_corpus
from maskseq.baselines.baselines import Baselines
from maskseq.baselines.gating import PARTS
from maskseq.calibration.stored import held_out_records
from maskseq.comparison.judge import MODEL, judge, product_first
from maskseq.comparison.question import COVARIANCES, Question
from maskseq.comparison.results import Evaluation
from maskseq.corpus.dress import AS_TRAINED, ReadAs, TrainedOn, reader_for
from maskseq.corpus.intake import Intake
from maskseq.corpus.out_of_range import watched
from maskseq.corpus.reader import SPLITS, Corpus, Split, holds_corpus
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import UsageError
from maskseq.evaluation.protocols import Protocol
from maskseq.infill.ranges import read_ranges
from maskseq.infill.ranges import within as stretches
from maskseq.infill.sampler import InfillConfig
from maskseq.loaded.recipe import recipe_file, trained_on
from maskseq.masking.config import MaskingConfig
from maskseq.model.checkpoint import read_json
from maskseq.predict.experts.left_out import MOST_COUNTED
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.protocol import Example
from maskseq.recipe import load_recipe
from maskseq.scoring.score import requested_fields
from maskseq.storage.folder import file_digest
from maskseq.tokenizer import Tokenizer
from maskseq.trained import load
from maskseq.types import Encoded, Stages

COUNTING = "counting on training data"
TRAIN: tuple[Split, ...] = ("train",)


def evaluate_run(
    run: Path | str,
    data: Path | None = None,
    *,
    question: Question = Question(),
    within: Sequence[str] = (),
    corpus: Path | str | None = None,
    order: str = "entropy_bounded",
    beam: int = 1,
    read_as: ReadAs = AS_TRAINED,
    experts: Sequence[str] = (),
    symmetries: bool = True,
    trust_code: bool = False,
    on_progress: Stages = lambda what, done, of: None,
) -> Evaluation:
    """Judge a run on a file, on what the corpus `data` holds out, or on what its own corpus holds out.

    Of a corpus the test part is read; where it has none, the selection data, and the figures are labelled so.

    `within` are stretches of the file's records, as `maskseq.infill.ranges` reads them: nothing else of it is scored.
    Numbers are judged as they were read, or as the centres of their bins where a corpus does not have them. Baselines
    are counted on the training data of `corpus` (default: the run's own). Experts count the known cells of the other
    records as well, as infill does; but where a protocol asks about the future.
    """
    loaded = load(run, trust_code=trust_code)
    requested_fields(loaded.tokenizer, question.fields)
    counted = loaded.corpus(corpus)
    masking = loaded.masking
    held_out = counted if data is None else loaded.corpus(data) if data.is_dir() else None
    intake = None
    if held_out is None and data is not None:
        intake = loaded.intake(data, read_as)
    records = _records(intake or held_out, loaded.tokenizer, within)
    on_progress(COUNTING, 0, None)
    distances = loaded.model.config.linear_prior.distances
    if distances and COVARIANCES not in question.imputers:
        question = replace(question, imputers=(*question.imputers, COVARIANCES))
    parts = PARTS if _is_other(data, held_out, counted) else TRAIN
    if not any(map(Protocol.is_open, question.protocols)):  # what comes later in a file is not known then
        loaded = loaded.counting((Example(each.ids, key=key) for key, each in records), experts)
    baselines = _baselines(question, counted, loaded.tokenizer, data, held_out, on_progress, distances, loaded.known)
    found = [
        judge(
            replace(question, protocols=protocols),
            records,
            baselines,
            context=question.window or loaded.model.config.max_positions,
            masking=masking,
            predictors=product_first(
                open_predictors(loaded, counted, experts, symmetries=symmetries, selection=parts == PARTS)
                if is_open
                else loaded.predictors(experts, symmetries=symmetries, parts=parts)
            ),
            product=MODEL,
            config=InfillConfig(order=order, beam=beam, seed=question.seed),
            on_progress=on_progress,
        )
        for is_open, protocols in _by_openness(question.protocols, loaded.tokenizer)
    ]
    result = Evaluation.joined(found, question.protocols)
    of = {"run": str(run), "data": _named(data, held_out, "the run's corpus"), "symmetries": symmetries}
    counts = 0 < sum(len(each.ids) for each in loaded.known) <= MOST_COUNTED
    of |= {"known cells counted": counts} | (intake.summary if intake else {})
    of |= {"checkpoint": loaded.checkpoint.name, "tokenizer fingerprint": loaded.tokenizer.fingerprint}
    return replace(result, of=of | ({"within": list(within)} if within else {}))


def evaluate_baselines(
    source: Path | str,
    data: Path | None = None,
    *,
    question: Question = Question(),
    within: Sequence[str] = (),
    read_as: ReadAs = AS_TRAINED,
    context: int = 1024,
    trust_code: bool = False,
    on_progress: Stages = lambda what, done, of: None,
) -> Evaluation:
    """What a model has to beat on a corpus's test part, its selection data, or a file (or `within` it).

    `source` is the corpus, a run that has one, or a recipe, whose corpus is made for the moment if it names none.
    """
    with _corpus_of(Path(source), trust_code=trust_code, on_progress=on_progress) as counted:
        held_out: Corpus | None = counted
        if data is not None:
            held_out = Corpus.open(data, trust_code=trust_code, known=counted.tokenizer) if data.is_dir() else None
        requested_fields(counted.tokenizer, question.fields)
        on_progress(COUNTING, 0, None)
        intake = None
        if held_out is None and data is not None:
            trained = _trained_on(Path(source), counted, trust_code)
            reader = reader_for(
                data, counted.tokenizer, trained, read_as.format, read_as.options, trust_code=trust_code
            )
            intake = Intake(reader, data, on_error=read_as.on_error, tokenizer=counted.tokenizer)
        records = _records(intake or held_out, counted.tokenizer, within)
        baselines = _baselines(question, counted, counted.tokenizer, data, held_out, on_progress)
        context = question.window or context
        result = judge(question, records, baselines, context=context, masking=MaskingConfig(), on_progress=on_progress)
    of = {"corpus": str(source), "data": _named(data, held_out, "the corpus")} | (intake.summary if intake else {})
    return replace(result, of=of)


def _by_openness(protocols: tuple[str, ...], tokenizer: Tokenizer[Any]) -> list[tuple[bool, tuple[str, ...]]]:
    """Protocols of open sequences of ids are predicted by what was fitted for them, the others by the run's gate."""
    if None not in tokenizer.vocabulary.centres:
        return [(False, protocols)]
    is_open = tuple(filter(Protocol.is_open, protocols))
    others = tuple(each for each in protocols if each not in is_open)
    return [(kind, some) for kind, some in ((False, others), (True, is_open)) if some or (not protocols and not kind)]


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
    file: Sequence[Example] = (),
) -> Baselines:
    """Counted on a corpus's training data, and what leaves records out on a file, too.

    Weights are fitted on its selection data or, where that is scored, on blocks of its training data. Where both may
    be, as in a file that it was made of, nothing is fitted.
    """
    selection: Iterator[Encoded] | tuple[()] | None = () if held_out is not None else None
    if question.every and _is_other(data, held_out, corpus):
        selection = (each for _, each in corpus.each("selection", numbers=True))
    baselines = Baselines(
        training_data(corpus),
        tokenizer,
        question.depth,
        distances,
        every=question.every,
        selection=selection,
        periods=question.periods,
        own=question.own_names,
        file=file,
    )
    for note in baselines.notes:
        on_progress(note, 0, None)
    return baselines


def _is_other(data: Path | None, held_out: Corpus | None, corpus: Corpus) -> bool:
    """Whether the scored data cannot be the corpus's selection data: its test part, other files, another corpus."""
    if data is None or held_out is not None:
        return held_out is not None and (held_out.judged == "test" or held_out.fingerprint != corpus.fingerprint)
    test = SPLITS["test"]
    sources = [source for source in corpus.manifest.get("sources", ()) if source.get("part") != test]
    sizes = {source["bytes"] for source in sources}
    known = {source["sha256"] for source in sources}
    return data.stat().st_size not in sizes or file_digest(data) not in known


def _named(data: Path | None, held_out: Corpus | None, own: str) -> str:
    """What is scored: a file, or the part of a corpus."""
    if held_out is None:
        return str(data)
    part = "test data" if held_out.judged == "test" else "selection data (there is no test part)"
    return f"{part} of {data or own}"


def _records(
    source: Intake | Corpus | None, tokenizer: Tokenizer[Any], within: Sequence[str]
) -> list[tuple[str, Encoded]]:
    """What is scored: the records of a file, or what a corpus holds out."""
    if isinstance(source, Intake):
        with source:
            cut = encoded(watched(stretches(source, read_ranges(within)), tokenizer), tokenizer)
            return [(each.key, ids) for each, ids in cut]
    assert source is not None
    if within:
        raise UsageError(
            "stretches are taken of the records of a file\n\nhint: name the file that they are of", code="bad-option"
        )
    return list(held_out_records(source, source.judged))


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
