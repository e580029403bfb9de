"""From a recipe to its corpus: files, split, fitted tokenizer, and the build or what is missing of it."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from maskseq import plugins
from maskseq.contract.fence import encode, fit
from maskseq.corpus.build import all_sources, build_corpus, build_from_records, build_share
from maskseq.corpus.intake import report
from maskseq.corpus.overlap import Overlap, overlap_of
from maskseq.corpus.reader import Corpus, holds_corpus
from maskseq.corpus.source import Source
from maskseq.corpus.splits import SplitConfig, training_records
from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.masking.causal import causal_segment
from maskseq.model.checkpoint import read_json
from maskseq.recipe import Recipe, canonical
from maskseq.storage.places import Place, local_files
from maskseq.storage.run_folder import RunFolder
from maskseq.tokenizer import Tokenizer
from maskseq.training import parallel
from maskseq.types import Progress, Record

NO_DATA = 'the recipe names no data\n\nhint: in its [data] section, set files = ["…"] or corpus = "…"'


def prepare_corpus(
    recipe: Recipe,
    *,
    default: Place,
    tokenizer: Tokenizer[Any] | None = None,
    records: Iterable[Record] | None = None,
    run: Path | None = None,
    scheduler: str | None = None,
    on_build: Progress = lambda units, of: None,
) -> Corpus:
    """Open the recipe's corpus, building it (or what is missing of it) first where the recipe names files.

    Of several processes under torchrun the first one builds, the others wait for it. `scheduler` is the address of a
    Dask cluster that builds instead of this machine. `run` is the folder of a run that may have begun from this corpus.
    """
    folder = recipe.data.corpus or default
    if records is None and not recipe.data.files:
        if recipe.data.corpus is None:
            raise UsageError(NO_DATA, code="bad-option")
        return Corpus.open(recipe.data.corpus, trust_code=recipe.code, known=tokenizer)
    ranks = parallel.join(recipe.training.device)
    parallel.check_shares(recipe.training.sizes, ranks.world)
    if not ranks.first:
        ranks.wait()
        return Corpus.open(folder, trust_code=recipe.code, known=tokenizer)
    unknown, on_error = recipe.data.unknown, recipe.data.on_error
    if records is not None:
        kept = list(records)
        if tokenizer is None and (begun := _begun(run, recipe, folder)):
            tokenizer = begun.tokenizer
        with _here(recipe) as (_, split):
            tokenizer = tokenizer or fit_tokenizer(recipe, training_records(lambda: kept, split))
            check_tokens(recipe, tokenizer, kept)
            corpus = build_from_records(
                kept,
                output=folder,
                tokenizer=tokenizer,
                split=split,
                unknown=unknown,
                variants=recipe.data.variants,
                on_error=on_error,
                format=next((recipe.reader(Path(file)) for file in split.files.values()), None),
            )
    elif tokenizer is None and (begun := _corpus_of_run(run, recipe, folder)):
        corpus = begun
    else:
        with _source(recipe, tokenizer) as (source, split, tokenizer):
            corpus = build_corpus(
                source.files,
                output=folder,
                tokenizer=tokenizer,
                format=source.format,
                split=split,
                unknown=unknown,
                workers=recipe.data.workers,
                scheduler=scheduler,
                variants=recipe.data.variants,
                on_error=on_error,
                progress=on_build,
                source=source,
            )
        _report_skipped(corpus)
    ranks.wait()
    return corpus


def _report_skipped(corpus: Corpus) -> None:
    left = corpus.manifest["skipped"]
    if left["records"]:
        warnings.warn(report(left["records"], corpus.manifest["records"], left["examples"]), DataWarning, stacklevel=3)


def _begun(run: Path | None, recipe: Recipe, folder: Place) -> Corpus | None:
    """The corpus that a run began from, if the recipe still says the same of it.

    *Why* nothing is fitted and compared instead: a later version may fit another tokenizer to the same records, and the
    run must go on with its own.
    """
    if run is None or not RunFolder(run).recipe.exists() or not holds_corpus(folder):
        return None
    saved = read_json(RunFolder(run).recipe)
    before, now = (canonical(each).get("recipe", {}) for each in (saved, recipe.identity()))
    if any(before.get(section) != now.get(section) for section in ("data", "tokenizer")):
        return None
    corpus = Corpus.open(folder, trust_code=recipe.code)
    return corpus if corpus.fingerprint == saved.get("corpus") else None


def _corpus_of_run(run: Path | None, recipe: Recipe, folder: Place) -> Corpus | None:
    """The same of a recipe that names files, if they are the same as well: it need not be made again."""
    corpus = _begun(run, recipe, folder)
    if corpus is None:
        return None
    with _here(recipe) as (paths, split):
        same = all_sources(paths, split, recipe.reader(paths[0])) == corpus.manifest["sources"]
    return corpus if same else None


def build_part(
    recipe: Recipe, share: tuple[int, int], *, output: Place, on_build: Progress = lambda units, of: None
) -> None:
    """Build every n-th part of the recipe's corpus, as job i of an array of n (`share`); `prepare_corpus` ends it."""
    with _source(recipe, None) as (source, split, tokenizer):
        build_share(
            source.files,
            share,
            output=output,
            tokenizer=tokenizer,
            format=source.format,
            split=split,
            variants=recipe.data.variants,
            on_error=recipe.data.on_error,
            progress=on_build,
        )


@contextmanager
def _source(recipe: Recipe, tokenizer: Tokenizer[Any] | None) -> Iterator[tuple[Source, SplitConfig, Tokenizer[Any]]]:
    """The recipe's files, its split, and the tokenizer, fitted on what will be training records."""
    with _here(recipe) as (paths, split):
        source = Source(paths, recipe.reader(paths[0]), recipe.data.on_error)
        tokenizer = tokenizer or fit_tokenizer(recipe, training_records(source.records, split))
        check_tokens(recipe, tokenizer, source.records())
        yield source, split, tokenizer


@contextmanager
def _here(recipe: Recipe) -> Iterator[tuple[list[Path], SplitConfig]]:
    """The recipe's files on this machine, and its split, whose files are on it, too."""
    files, held_out = recipe.data.files, recipe.data.split.files.values()
    with local_files([*files, *held_out]) as paths:
        copies = dict(zip(held_out, map(str, paths[len(files) :]), strict=True))
        yield paths[: len(files)], recipe.data.split.with_files(lambda file: copies[file])


def recipe_tokenizer(recipe: Recipe) -> Tokenizer[Any]:
    """The tokenizer of the recipe's files, fitted on them where it is one that learns, or else of its corpus."""
    if recipe.data.files:
        with _source(recipe, None) as (_, _, tokenizer):
            return tokenizer
    if recipe.data.corpus is None:
        raise UsageError(NO_DATA, code="bad-option")
    return Corpus.open(recipe.data.corpus, trust_code=recipe.code).tokenizer


def fit_tokenizer(recipe: Recipe, records: Iterable[Record]) -> Tokenizer[Any]:
    """The tokenizer of the recipe's `[tokenizer]` section; what it learns, it learns from `records`."""
    options = dict(recipe.tokenizer)
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = plugins.listed("tokenizers")
        raise UsageError(
            f'[tokenizer] needs a name, such as name = "nucleotide"\n\nhint: installed are {known}', code="bad-option"
        )
    return fit(plugins.load("tokenizers", name, trust_code=recipe.code), records, options)


def check_tokens(recipe: Recipe, tokenizer: Tokenizer[Any], records: Iterable[Record]) -> None:
    """`UsageError` where the recipe does not suit the fields, or their cells in the first record that shows it."""
    recipe.check_fields(tokenizer.fields)
    if not recipe.masking.causal:
        return
    for record in records:
        with suppress(DataError):  # the build reports it, or leaves the record out
            first = encode(tokenizer, record).cut(0, recipe.packing.context)
            causal_segment(first.ids, tokenizer.units_of(first), tokenizer.fields, begins=True)
            if len(first) > 1:
                return


def warn_of_overlap(corpus: Corpus) -> Overlap | None:
    """What the split of a corpus leaves out at a time boundary; warns where that is much."""
    left = overlap_of(corpus)
    if left is not None and left.warning:
        warnings.warn(left.warning, stacklevel=3)
    return left


def warn_of_shared(corpus: Corpus) -> dict[str, Any] | None:
    """What a file that is held out shares with those that are trained on; warns where that is anything."""
    files: dict[str, Any] | None = corpus.manifest["split"].get("files")
    for source in corpus.manifest["sources"]:
        n = (files or {}).get(source.get("part"), {})
        if any(n.get(key) for key in ("keys_shared", "contents_shared")):
            warnings.warn(
                f"{source['name']}: of {n['records']:,} records, the keys of {n['keys_shared']:,} and the contents of "
                f"{n['contents_shared']:,} stand in the files that are trained on, too; {n['left_out']:,} are left out",
                stacklevel=3,
            )
    return files
