"""Raw files to a corpus. Any engine, any number of workers, any interruption: the same bytes.

The calling process streams records and cuts the stream into parts, workers encode and write them; when all parts are
there, the split is computed from lengths and hashes, and `manifest.json` is replaced in one step. Until then readers
see the corpus that was there before, or none. A part that is whole says so, and resuming skips it by its name.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from maskseq.corpus.budget import within
from maskseq.corpus.finish import BuildPlan, current_manifest, finish, is_built, prepare, remove_leftovers
from maskseq.corpus.intake import OnError
from maskseq.corpus.parts import Part, part_name
from maskseq.corpus.reader import Corpus
from maskseq.corpus.source import Source
from maskseq.corpus.split_config import PARTS, TRAIN
from maskseq.corpus.splits import SplitConfig
from maskseq.corpus.unknown_runs import UnknownRuns
from maskseq.corpus.workers import engine_for
from maskseq.corpus.write import holds, write_part
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.formats import Format
from maskseq.plugins import format_for, name_of
from maskseq.storage.folder import Folder, file_digest
from maskseq.storage.places import Place, open_folder
from maskseq.tokenizer import Tokenizer
from maskseq.types import Progress, Record

PART_CELLS = 1 << 24  # raw units times fields: what a part holds by default, some 100 MB of records
T = TypeVar("T")


Group = tuple[int, list[Record | DataError]]
"""Records of one part of a corpus, and which part of the split they are given as (`TRAIN`: they are to be divided)."""


def build_corpus(
    files: Sequence[Path],
    *,
    output: Place,
    tokenizer: Tokenizer[Any],
    format: Format[Any] | None = None,
    split: SplitConfig | None = None,
    unknown: UnknownRuns | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    variants: int = 1,
    part_units: int | None = None,
    on_error: OnError = "stop",
    overwrite: bool = False,
    progress: Progress = lambda units, of: None,
    source: Source | None = None,
) -> Corpus:
    """Tokenize `files` into the corpus `output` (a folder or the URL of one) and open it.

    Files that are a part of the `split` as a whole are read behind them, in the same format. An interrupted build of
    the same input resumes. Of tokenizers that have some, each record gets its first `variants`. Sequences are cut at
    long runs of `unknown` positions. `on_error="skip"` leaves out the records that cannot be read or encoded and counts
    them in the manifest. `source` is what has been read of the files already, for the tokenizer to be fitted on.
    Workers are spawned processes (a script that asks for more than one needs `if __name__ == "__main__":`); `scheduler`
    is the address of a Dask cluster to use instead. Memory is about (workers + 2) times `part_units` raw units
    (default: 16 M divided by the number of fields), or as many of the longest record.
    """
    split = split or SplitConfig()
    job = _job_of_files(files, tokenizer, format, part_units, on_error, variants, split)
    folder = open_folder(output)
    job = prepare(folder, job, overwrite=overwrite)
    with folder.exclusive():
        if not is_built(folder, job):
            remove_leftovers(folder, keep={*_in_use(folder), job.parts})
            groups = _groups(source or Source(files, format, on_error), split, format, job)
            _write_parts(enumerate(groups), folder, job, workers=workers, scheduler=scheduler, progress=progress)
        return finish(folder, job, split, unknown or UnknownRuns())


def build_share(
    files: Sequence[Path],
    share: tuple[int, int],
    *,
    output: Place,
    tokenizer: Tokenizer[Any],
    format: Format[Any] | None = None,
    split: SplitConfig | None = None,
    variants: int = 1,
    part_units: int | None = None,
    on_error: OnError = "stop",
    progress: Progress = lambda units, of: None,
) -> None:
    """Write every n-th part only: job `i` of an array of `n` (from 1), while the others run.

    `build_corpus` with the same arguments, once they are done, finds all parts there and finishes the corpus.
    """
    number, of = share
    if not 1 <= number <= of:
        raise UsageError(f"share {number}/{of}: the first number must be between 1 and the second", code="bad-option")
    split = split or SplitConfig()
    job = _job_of_files(files, tokenizer, format, part_units, on_error, variants, split)
    folder = open_folder(output)
    job = prepare(folder, job, overwrite=False)
    with folder.exclusive(shared_as=f"{number}-of-{of}"):
        groups = enumerate(_groups(Source(files, format, on_error), split, format, job))
        mine = ((index, group) for index, group in groups if index % of == number - 1)
        _write_parts(mine, folder, job, progress=progress)


def build_from_records(
    records: Iterable[Record],
    *,
    output: Place,
    tokenizer: Tokenizer[Any],
    split: SplitConfig | None = None,
    unknown: UnknownRuns | None = None,
    variants: int = 1,
    part_units: int | None = None,
    on_error: OnError = "stop",
    overwrite: bool = False,
    format: Format[Any] | None = None,
) -> Corpus:
    """The same from records of any origin, in this process; `format` reads files that are a part of the split.

    Where there is a corpus of such a build already, the records are encoded and compared with it: equal ones go on with
    it. Nothing else shows whether they are the same as the last time, so an interrupted build starts over.
    """
    folder = open_folder(output)
    there = current_manifest(folder) or {}
    split = split or SplitConfig()
    held_out = _held_out_sources(split, format)
    made = _planned(held_out, None, tokenizer, part_units, on_error, variants, split)
    job = replace(made, replaces=there.get("replaces", "")).found_in(folder)
    if not overwrite and is_built(folder, job):
        with folder.exclusive():
            if not _holds(folder, there["parts"], _groups(records, split, format, job), job):
                raise UsageError(
                    f"{folder} already holds a corpus of other records\n\nhint: give another output folder, or remove "
                    f"this one if it is not needed any more",
                    code="other-data",
                )
            return finish(folder, job, split, unknown or UnknownRuns())
    job = replace(made, replaces=there.get("digest", ""))
    job = prepare(folder, job, overwrite=overwrite)
    with folder.exclusive():
        remove_leftovers(folder, keep=_in_use(folder))
        _write_parts(enumerate(_groups(records, split, format, job)), folder, job)
        return finish(folder, job, split, unknown or UnknownRuns())


def _holds(folder: Folder, parts: Sequence[dict[str, Any]], groups: Iterable[Group], job: BuildPlan) -> bool:
    """Whether parts are those of the records: as many are read as it takes to know."""
    entries = iter(parts)
    for given, records in groups:
        entry = next(entries, None)
        if entry is None:
            return False
        part = Part(folder, entry["name"], entry["digest"])
        if not holds(part, records, job, given):
            return False
    return next(entries, None) is None


def _in_use(folder: Folder) -> set[str]:
    """What the manifest that readers see now refers to."""
    manifest = current_manifest(folder)
    return set() if manifest is None else {manifest["parts_folder"], manifest["sequences"]["file"]}


def _job_of_files(
    files: Sequence[Path],
    tokenizer: Tokenizer[Any],
    format: Format[Any] | None,
    part_units: int | None,
    on_error: OnError,
    variants: int,
    split: SplitConfig,
) -> BuildPlan:
    sources = all_sources(files, split, format)
    described: dict[str, Any] | None = None
    if format is not None:
        described = {"name": name_of("formats", type(format)), "options": format.identity()}
    return _planned(tuple(sources), described, tokenizer, part_units, on_error, variants, split)


def _planned(
    sources: tuple[dict[str, Any], ...],
    format: dict[str, Any] | None,
    tokenizer: Tokenizer[Any],
    part_units: int | None,
    on_error: OnError,
    variants: int,
    split: SplitConfig,
) -> BuildPlan:
    return BuildPlan(
        tokenizer,
        sources,
        format,
        part_units or max(PART_CELLS // len(tokenizer.fields), 1),
        on_error,
        variants,
        group=split.group,
        moments=split.by_time,
        numbers=tokenizer.keeps_numbers,
    )


def all_sources(files: Sequence[Path], split: SplitConfig, format: Format[Any] | None) -> list[dict[str, Any]]:
    """Name, size and digest of every file that is read, as a corpus keeps them."""
    return [*_sources_of(files, format), *_held_out_sources(split, format)]


def _held_out_sources(split: SplitConfig, format: Format[Any] | None) -> tuple[dict[str, Any], ...]:
    """The same of files that are a part of the split as a whole, with the name of the part."""
    return tuple(
        {**source, "part": PARTS[part]}
        for part, file in split.files.items()
        for source in _sources_of([Path(file)], format)
    )


def _sources_of(files: Sequence[Path], format: Format[Any] | None) -> list[dict[str, Any]]:
    if not files:
        raise UsageError("no input files are given", code="missing-file")
    for path in files:
        _require(path)
    read = dict.fromkeys(source for path in files for source in (format or format_for(path)).sources(path))
    sources = []
    for path in read:
        _require(path)
        sources.append({"name": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)})
    return sources


def _require(path: Path) -> None:
    if not path.is_file():
        raise DataError(path, "there is no such file", code="missing-file")


def _write_parts(
    groups: Iterable[tuple[int, Group]],
    folder: Folder,
    job: BuildPlan,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda units, of: None,
) -> None:
    """Have every part written that is not there yet, a bounded number at a time."""
    there = set(folder.parts(job.parts))
    groups, several = _look_ahead(iter(groups))
    if not several and scheduler is None:
        workers = 1  # starting a process takes longer than a single part
    engine, in_flight = engine_for(workers, scheduler, job.tokenizer, folder)
    pending: set[Future[None]] = set()
    sent = replace(job, sources=())  # there may be thousands, and workers do not need them
    n_units = 0
    try:
        for index, (given, records) in groups:
            n_units += sum(map(_n_units, records))
            if part_name(index) not in there:
                while len(pending) >= in_flight:
                    _collect(pending)
                pending.add(engine.submit(write_part, folder, job.parts, index, records, sent, given))
            progress(n_units, None)
        while pending:
            _collect(pending)
    except BrokenProcessPool:
        raise MaskseqError(
            f"{folder}: a worker process was killed, most likely for want of memory\n\n"
            f"hint: run the same command again with fewer workers; it resumes with the parts that are missing"
        ) from None
    finally:
        engine.shutdown(cancel_futures=True)


def _groups(
    records: Iterable[Record | DataError], split: SplitConfig, format: Format[Any] | None, job: BuildPlan
) -> Iterator[Group]:
    """The records of all parts of a corpus, and behind them those of files that are a part of the split as a whole."""
    held_out = {part: Source([Path(file)], format, job.on_error) for part, file in split.files.items()}
    origins: Mapping[int, Iterable[Record | DataError]] = {TRAIN: records, **held_out}
    for given, each in origins.items():
        for group in _grouped(each, job.part_units):
            yield given, group


def _grouped(records: Iterable[Record | DataError], part_units: int) -> Iterator[list[Record | DataError]]:
    """Cut the stream into parts of at most `part_units` raw units; a longer record is a part of its own."""
    return within(records, (_n_units, part_units))


def _n_units(record: Record | DataError) -> int:
    return 0 if isinstance(record, DataError) else len(record)


def _look_ahead(groups: Iterator[T]) -> tuple[Iterator[T], bool]:
    """The same iterator, and whether there is more than one item."""
    first_two = deque(islice(groups, 2))
    several = len(first_two) == 2

    def all_of_them() -> Iterator[T]:
        while first_two:
            yield first_two.popleft()  # not kept: a part may be large
        yield from groups

    return all_of_them(), several


def _collect(pending: set[Future[None]]) -> None:
    """Wait for at least one part. Re-raises what went wrong in a worker."""
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    pending -= done
    for future in done:
        future.result()
